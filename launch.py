#!/usr/bin/env python3
"""From a folder of images to a served model; everything happens in launcher.cli."""

import sys

try:
    from launcher.cli import main
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] in ("launcher", "container"):
        raise
    sys.exit(
        f"error: {sys.executable} has no package {error.name}: set up with `make venv` once, then "
        'run `export PATH="$PWD/.venv/bin:$PATH"` in the folder of this repository.'
    )

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
