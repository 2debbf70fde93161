"""Unpack what people upload in place of a folder: `.tar`, `.tar.gz`, `.tgz` and `.zip`."""

import os
import shutil
import zipfile
import zlib
from pathlib import Path

from container import images
from container.errors import UserError
from container.image_files import Rejected
from container.stopping import StopSignal
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
    # The name first: what a link of another name leads to need not be within reach.
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def unpack(archive: Path, directory: Path, rejected: list[Rejected], stop: StopSignal) -> None:
    """Extract the regular files of an archive, and hard links to them; nothing goes outside.

    Images that are anything else, such as symbolic links, go to `rejected`.

    Raises:
        UserError: not an archive, damaged, unsafe, or larger than the disk.
        Stopped: the job was asked to stop.
    """
    directory.mkdir(parents=True, exist_ok=True)
    room = min(shutil.disk_usage(directory).free, MAX_EXPANSION * archive.stat().st_size + 2**20)
    try:
        if archive.name.lower().endswith(".zip"):
            _unpack_zip(archive, directory, room, stop)
        else:
            _unpack_tar(archive, directory, room, rejected, stop)
    except _DAMAGE as error:
        raise UserError(f"The archive {archive} cannot be unpacked: {error}.") from None


def _unpack_tar(
    archive: Path, directory: Path, room: int, rejected: list[Rejected], stop: StopSignal
) -> None:
    with tarfile.open(archive) as tar:
        for count, member in enumerate(tar, start=1):
            stop.check()
            room = _take(room, member.size, count, archive)
            if member.isfile() or member.isdir():
                tar.extract(member, directory, filter="data")
            elif not _linked(member, directory) and member.name.lower().endswith(images.SUFFIXES):
                place = Path(f"{archive}:{member.name}")
                rejected.append(Rejected(place, "This is no file, and no hard link to one."))


def _linked(member: tarfile.TarInfo, directory: Path) -> bool:
    """Make a member that is a hard link; whether it is one, to a file that was extracted."""
    if not member.islnk():
        return False
    # Not by `extract`: where the file is missing, it makes what the archive has by that name.
    member = member.replace(linkname=member.linkname.lstrip("/"), deep=False)
    member = tarfile.data_filter(member, str(directory))
    path, target = directory / member.name, directory / member.linkname
    if not target.is_file():
        return False
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(target, path)
    return True


def _unpack_zip(archive: Path, directory: Path, room: int, stop: StopSignal) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for count, member in enumerate(zipped.infolist(), start=1):
            stop.check()
            room = _take(room, member.file_size, count, archive)
            zipped.extract(member, directory)


def _take(room: int, size: int, count: int, archive: Path) -> int:
    if size > room or count > MAX_MEMBERS:
        raise UserError(
            f"The archive {archive} does not fit: its content is larger than the free disk space, "
            f"or than {MAX_EXPANSION} times the archive."
        )
    return room - size
