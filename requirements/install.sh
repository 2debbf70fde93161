#!/usr/bin/env bash
# Set up a virtual environment with every locked package: install.sh DIRECTORY
# Needs a Python from 3.10 on, and nothing else. PYTHON names the interpreter to use.
set -euo pipefail
environment=${1:?usage: install.sh DIRECTORY}
[[ $environment == /* ]] || environment=$PWD/$environment
cd "$(dirname "$0")"

say() { echo "kennel: $*" >&2; }

# What is behind the link may be in use by others, and would be cleared.
if [[ -L $environment ]]; then
    say "$environment is a link; nothing was changed. Remove the link, or set up what it leads to."
    exit 1
fi

# Three packages compile a little C, which needs Python's headers.
usable() {
    "$1" -c 'import ensurepip, os, sys, sysconfig
os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))
sys.exit(sys.version_info < (3, 10))' 2> /dev/null
}
# Python 3.11 is what the image runs; smdebug does not import on 3.13.
for python in ${PYTHON:-python3.11 python3.12 python3.10 python3}; do
    usable "$python" && break
    python=
done
if [[ -z $python ]]; then
    say "no Python from 3.10 on with pip and headers was found;" \
        "on Debian and Ubuntu: apt-get install python3-venv python3-dev"
    exit 1
fi
say "setting up with $("$python" --version); the first time this downloads about 3 GB"
"$python" -m venv --clear "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r uv.txt
# Behind a company's proxy the machine's own certificates are the ones that work.
[[ ! -s /etc/ssl/certs/ca-certificates.crt ]] || export UV_SYSTEM_CERTS=true
install() {
    "$environment/bin/uv" pip install --quiet --require-hashes --build-constraints build.txt \
        --python "$environment/bin/python" "$@"
}

# Where there is no C compiler, one comes as a package.
if ! command -v cc > /dev/null && ! command -v gcc > /dev/null; then
    say "no C compiler here; using the one in the package ziglang"
    install -r compiler.txt
    export CC=$PWD/zig-cc ZIG_PYTHON=$environment/bin/python
fi
install -r uv.txt -r image.txt -r debugging.txt -r host.txt
say "done"
