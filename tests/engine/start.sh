#!/usr/bin/env bash
# Makes a Docker engine answer on this machine: the one that is there, or a dockerd started here (root).
# A dockerd started here keeps everything in DIRECTORY, and stop.sh DIRECTORY ends it by its id.
# Usage: tests/engine/start.sh [DIRECTORY]
set -euo pipefail

directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/kennel/engine}
seconds_to_answer=60

say() { printf 'engine: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
engine_answers() { docker version >/dev/null 2>&1; }

command -v docker >/dev/null || fail "the docker command is missing: apt-get install docker.io"
if engine_answers; then
    say "an engine already answers"
    exit 0
fi
[[ $EUID -eq 0 ]] || fail "no engine answers, and only root can start one"
command -v dockerd >/dev/null || fail "the dockerd command is missing: apt-get install docker.io"

mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
# A build of the image leaves 20 GB behind for the next one; older builds' leavings go.
printf '{"builder": {"gc": {"enabled": true, "defaultKeepStorage": "30GB"}}}\n' >"$directory/daemon.json"
# Its own session: Ctrl-C in this terminal must not end an engine that others use.
setsid dockerd \
    --config-file "$directory/daemon.json" \
    --data-root "$directory/data" \
    --exec-root "$directory/run" \
    --pidfile "$directory/dockerd.pid" \
    --storage-driver overlay2 \
    >"$directory/dockerd.log" 2>&1 </dev/null &
dockerd=$!

deadline=$((SECONDS + seconds_to_answer))
until engine_answers; do
    if ! kill -0 "$dockerd" 2>/dev/null || ((SECONDS >= deadline)); then
        tail -n 20 "$directory/dockerd.log" >&2
        kill "$dockerd" 2>/dev/null || true
        fail "dockerd did not answer; its log is $directory/dockerd.log"
    fi
    sleep 0.2
done
say "dockerd $(cat "$directory/dockerd.pid") answers; end it with: bash tests/engine/stop.sh $directory"
