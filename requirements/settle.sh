#!/bin/sh
# Make folders that an image will hold the same whenever they are built: settle.sh [--compile] FOLDER...
# Anyone may read them, and every date is SOURCE_DATE_EPOCH's. --compile writes byte code, which users of
# the container may not, and which is trusted unchecked.
set -eu
if [ "$1" = --compile ]; then
    shift
    # Some packages bring files of other Pythons, and broken ones for their tests.
    "$1/bin/python" -m compileall -qq --invalidation-mode unchecked-hash "$1/lib" || true
fi
chmod -R a+rX "$@"
find "$@" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
