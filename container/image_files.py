"""Where an image's bytes are: in a file of its own, or inside an archive of many."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol


class Sized(Protocol):
    """What there is to know of a file without reading it."""

    @property
    def st_size(self) -> int:
        """Its bytes."""


class ImageFile(Protocol):
    """An encoded image somewhere; a Path is one."""

    @property
    def name(self) -> str:
        """Its name without the folders."""

    def read_bytes(self) -> bytes:
        """Its content. Raises OSError."""

    def stat(self) -> Sized:
        """Its size. Raises OSError."""

    def __hash__(self) -> int:
        """Files are told apart by where they are."""


class _Size(NamedTuple):
    st_size: int


@dataclass(frozen=True)
class Member:
    """A file inside an uncompressed tar archive, read where it lies."""

    archive: Path
    path: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Its name without the folders."""
        return self.path.rpartition("/")[2]

    def read_bytes(self) -> bytes:
        """Its content. Raises OSError, too where the archive ends early."""
        descriptor = os.open(self.archive, os.O_RDONLY)
        try:
            content = os.pread(descriptor, self.size, self.offset)
        finally:
            os.close(descriptor)
        if len(content) < self.size:
            raise OSError(errno.EIO, "the archive ends early")
        return content

    def stat(self) -> Sized:
        """Its size."""
        return _Size(self.size)

    def __str__(self) -> str:
        return f"{self.archive}:{self.path}"


@dataclass(frozen=True)
class Rejected:
    """An image file that cannot be used, and why."""

    path: ImageFile
    reason: str
