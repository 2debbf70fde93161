#!/usr/bin/env bash
# Set up a virtual environment with every locked package: install.sh DIRECTORY
# Needs a Python from 3.10 on, and nothing else. PYTHON names the interpreter to use.
set -euo pipefail
environment=${1:?usage: install.sh DIRECTORY}
[[ $environment == /* ]] || environment=$PWD/$environment
cd "$(dirname "$0")"

say() { echo "kennel: $*" >&2; }

# Python 3.11 is what the image runs; smdebug does not import on 3.13.
usable() { "$1" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; }
for python in ${PYTHON:-python3.11 python3.12 python3.10 python3}; do
    usable "$python" && break
    python=
done
if [[ -z $python ]]; then
    say "no usable Python from 3.10 on was found; on Debian: apt-get install python3-venv"
    exit 1
fi
say "setting up with $("$python" --version); the first time this downloads about 3 GB"
"$python" -m venv --clear "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r uv.txt
install() {
    "$environment/bin/uv" pip install --quiet --require-hashes --build-constraints build.txt \
        --python "$environment/bin/python" "$@"
}

# Two packages compile a little C; where there is no compiler, one comes as a package.
if ! command -v cc > /dev/null && ! command -v gcc > /dev/null; then
    say "no C compiler here; using the one in the package ziglang"
    install -r compiler.txt
    export CC="$environment/bin/python -m ziglang cc"
fi
everything=(-r uv.txt -r image.txt -r debugging.txt -r host.txt)
if ! install "${everything[@]}"; then
    say "trying again without smdebug, which needs Python's C headers: training will have no hooks"
    install -r uv.txt -r image.txt -r host.txt
fi
say "done"
