"""Tar archives as they are used for large data sets: indexed once, read where they lie.

Members are `class/name.jpg`, or WebDataset's samples: `key.jpg` beside `key.cls`, which holds the
class's number or name. https://github.com/webdataset/webdataset
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from container.errors import UserError
from container.image_files import Member
from container.images import SUFFIXES
from container.training.archives import MAX_MEMBERS

_MAX_CLASS_BYTES = 1024


def is_uncompressed(archive: Path) -> bool:
    """Whether a file is a tar archive whose members can be read where they lie."""
    with archive.open("rb") as file:
        header = file.read(262)
    return archive.name.lower().endswith(".tar") and header[257:262] == b"ustar"


def read(archive: Path) -> Iterator[tuple[tuple[str, ...] | None, Member]]:
    """Each image of an archive, with the folders that it is in.

    A sample's class counts as the innermost folder; where it is missing there are no folders.

    Raises:
        UserError: the archive is damaged.
    """
    images: list[Member] = []
    classes: dict[str, str] = {}
    try:
        for member in _members(archive):
            if member.name.lower().endswith(SUFFIXES):
                images.append(member)
            elif member.path.endswith(".cls"):
                classes[_key(member.path)] = _class_name(member)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"The archive {archive} cannot be read: {error}. Make it again.") from None
    for image in images:
        folders = tuple(part for part in image.path.split("/")[:-1] if part not in {"", "."})
        if not classes:
            yield folders, image
        elif _key(image.path) in classes:
            yield (*folders, classes[_key(image.path)]), image
        else:
            yield None, image


def _members(archive: Path) -> Iterator[Member]:
    size = archive.stat().st_size
    with tarfile.open(archive, "r:") as tar:
        count = 0
        while (info := tar.next()) is not None:
            # Or it would remember them all; typeshed does not know the list.
            tar.members.clear()  # type: ignore[attr-defined]
            count += 1
            if count > MAX_MEMBERS:
                raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
            if info.offset_data + info.size > size:
                raise ValueError("it ends early")
            if info.isreg() and not info.issparse():
                yield Member(archive, info.name, info.offset_data, info.size)


def _key(path: str) -> str:
    """A sample's key: the path up to the first dot of the file's name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _class_name(member: Member) -> str:
    if member.size > _MAX_CLASS_BYTES:
        raise ValueError(f"{member.path} is too large to be the name of a class")
    name = member.read_bytes().decode().strip()
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"{member.path} holds {name!r}, which is no name for a class")
    return name
