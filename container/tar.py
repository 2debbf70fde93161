"""`tarfile` with extraction filters on every Python: 3.11.2, which Debian 12 ships, has none."""

import sys
from typing import TYPE_CHECKING

# The backport has no types of its own; its functions are the standard library's.
if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile

__all__ = ["tarfile"]
