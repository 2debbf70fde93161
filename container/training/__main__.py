"""`python -m container.training`: one of the processes that torchrun starts."""

import sys

from container.training import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
