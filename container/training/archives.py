"""Unpack what people upload in place of a folder: `.tar`, `.tar.gz`, `.tgz` and `.zip`."""

import shutil
import zipfile
import zlib
from pathlib import Path

from container.errors import UserError
from container.tar import tarfile

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MAX_MEMBERS = 10_000_000
MAX_EXPANSION = 200
"""Images hardly compress: an archive that grows more than this many times is a bomb."""

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted zip
    ValueError,
)


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, directory: Path) -> None:
    """Extract the regular files of an archive; links, devices and outside paths are refused.

    Raises:
        UserError: not an archive, damaged, unsafe, or larger than the disk.
    """
    directory.mkdir(parents=True, exist_ok=True)
    room = min(shutil.disk_usage(directory).free, MAX_EXPANSION * archive.stat().st_size + 2**20)
    try:
        if archive.name.lower().endswith(".zip"):
            _unpack_zip(archive, directory, room)
        else:
            _unpack_tar(archive, directory, room)
    except _DAMAGE as error:
        raise UserError(f"The archive {archive} cannot be unpacked: {error}.") from None


def _unpack_tar(archive: Path, directory: Path, room: int) -> None:
    with tarfile.open(archive) as tar:
        for count, member in enumerate(tar, start=1):
            room = _take(room, member.size, count, archive)
            if member.isfile() or member.isdir():
                tar.extract(member, directory, filter="data")


def _unpack_zip(archive: Path, directory: Path, room: int) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for count, member in enumerate(zipped.infolist(), start=1):
            room = _take(room, member.file_size, count, archive)
            zipped.extract(member, directory)


def _take(room: int, size: int, count: int, archive: Path) -> int:
    if size > room or count > MAX_MEMBERS:
        raise UserError(
            f"The archive {archive} does not fit: its content is larger than the free disk space, "
            f"or than {MAX_EXPANSION} times the archive."
        )
    return room - size
