#!/usr/bin/env bash
# Pin the newest versions that fit together, with hashes, for every Python that Kennel runs on.
set -euo pipefail
cd "$(dirname "$0")"

command -v uv > /dev/null || { echo "error: uv is missing; run: pip install uv" >&2; exit 1; }
for name in uv build compiler sbom image cpu debugging host; do
    # image before cpu, and before debugging before host: each takes the ones before it as given.
    uv pip compile --quiet --universal --python-version 3.10 --generate-hashes "$@" \
        --custom-compile-command "make lock" "$name.in" --output-file "$name.txt"
done
