#!/bin/sh
# Make folders that an image will hold the same whenever they are built: settle.sh FOLDER...
# Anyone may read them and only root may write, and every date is SOURCE_DATE_EPOCH's.
set -eu
chmod -R a+rX,go-w "$@"
find "$@" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
