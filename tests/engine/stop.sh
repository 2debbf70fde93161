#!/usr/bin/env bash
# Ends the dockerd that start.sh started, by its id; an engine that was there before is left alone.
# Usage: tests/engine/stop.sh [--clean] [DIRECTORY]     --clean also deletes its images and containers
set -euo pipefail

clean=no
if [[ ${1:-} == --clean ]]; then
    clean=yes
    shift
fi
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/kennel/engine}
seconds_to_end=60

say() { printf 'engine: %s\n' "$*" >&2; }

if [[ -f $directory/dockerd.pid ]]; then
    dockerd=$(cat "$directory/dockerd.pid")
    # A process id is used again after a crash: end it only if it still is a dockerd.
    if [[ $(cat "/proc/$dockerd/comm" 2>/dev/null) == dockerd ]]; then
        kill "$dockerd"
        deadline=$((SECONDS + seconds_to_end))
        while kill -0 "$dockerd" 2>/dev/null; do
            if ((SECONDS >= deadline)); then
                say "dockerd $dockerd did not end in $seconds_to_end s"
                exit 1
            fi
            sleep 0.2
        done
        say "dockerd $dockerd ended"
    fi
fi

if [[ $clean == yes && -d $directory/data ]]; then
    # A container on the host's own network leaves that network's handle mounted; an engine that crashed, its data.
    for mounted in "$directory"/run/netns/* "$directory/data"; do
        if mountpoint --quiet "$mounted"; then umount "$mounted"; fi
    done
    rm -rf -- "$directory"/{data,run,daemon.json,dockerd.log,dockerd.pid}
    rmdir --ignore-fail-on-non-empty "$directory"
    say "$directory is clean"
fi
