#!/usr/bin/env python3
"""From a folder of images to a served model; everything happens in launcher.cli."""

import sys

from launcher.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
