#!/usr/bin/env bash
# Makes a small Debian image with Python 3.11 that stands in for the CUDA base where no registry of
# images can be reached. What lets this machine reach its package archives (the apt mirror and its
# settings, the bundle of certificate authorities) goes with it: never push what is built on it.
# Usage: tests/engine/base.sh IMAGE     needs root and debootstrap
set -euo pipefail

image=${1:?usage: base.sh IMAGE}
suite=bookworm # the Debian release whose python3 is 3.11
bundle=/etc/ssl/certs/ca-certificates.crt

say() { printf 'base: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

if docker image inspect "$image" >/dev/null 2>&1; then
    say "$image is there"
    exit 0
fi
[[ $EUID -eq 0 ]] || fail "debootstrap needs root"
command -v debootstrap >/dev/null || fail "the debootstrap command is missing: apt-get install debootstrap"

# This machine's own archives of that release, as lines "URI RELEASE COMPONENT"; else Debian's own.
# shellcheck disable=SC2016 # $(REPO_URI) is apt's to fill in
archives=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' 2>/dev/null | grep -E " $suite(-updates|-security)? " || true)
if ! grep -q " $suite " <<<"$archives"; then
    archives="http://deb.debian.org/debian $suite main
http://deb.debian.org/debian-security $suite-security main"
fi
mirror=$(grep -m 1 " $suite " <<<"$archives" | cut -d ' ' -f 1)

root=$(mktemp -d)
trap 'rm -rf -- "$root"' EXIT
chmod 755 "$root" # becomes the image's /, which mktemp made private

say "debootstrap $suite from $mirror"
debootstrap --variant=minbase --include=ca-certificates,python3 "$suite" "$root" "$mirror" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; fail "debootstrap failed; its log is $root.log"; }
rm -f -- "$root.log"

sort -u <<<"$archives" | sed 's/^/deb /' >"$root/etc/apt/sources.list"
# Proxies, time-outs and checks that this machine's apt was told; not its hooks.
apt-config dump | grep -E '^Acquire::(https?|ftp|Check-|Retries|ForceIPv)' >"$root/etc/apt/apt.conf.d/90host" || true
if [[ -f $bundle ]]; then
    cp "$bundle" "$root/usr/local/share/ca-certificates/host.crt"
    # Says that the file holds more than one certificate; they all reach the bundle.
    chroot "$root" update-ca-certificates >/dev/null 2>&1
fi
rm -rf -- "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*

tar -C "$root" --numeric-owner -c . | docker import - "$image" >/dev/null
say "$image is ready"
