"""Tar archives as they are used for large data sets: indexed once, read where they lie.

Members are `class/name.jpg`, or WebDataset's samples: `key.jpg` beside `key.cls`, which holds the
class's number or name. https://github.com/webdataset/webdataset
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from container.errors import UserError
from container.image_files import Member, Rejected
from container.images import SUFFIXES
from container.training.archives import MAX_MEMBERS

_MAX_CLASS_BYTES = 1024

Placed = tuple[tuple[str, ...], Member]
"""An image, and the folders that it is in."""


def is_uncompressed(archive: Path) -> bool:
    """Whether a file is a tar archive whose members can be read where they lie.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with archive.open("rb") as file:
            header = file.read(262)
    except OSError as error:
        raise UserError(f"The archive {archive} cannot be read: {error.strerror}.") from None
    return archive.name.lower().endswith(".tar") and header[257:262] == b"ustar"


@dataclass
class _Index:
    """What an archive holds, as its headers say."""

    images: list[Member] = field(default_factory=list)
    links: list[tuple[Member, str]] = field(default_factory=list)
    """Hard links that are named as images are, and the paths that they lead to."""
    rejected: list[Rejected] = field(default_factory=list)
    classes: dict[str, str] = field(default_factory=dict)
    """The class of each sample, by its key."""

    def add(self, info: tarfile.TarInfo, member: Member) -> None:
        """Take note of a member. Raises ValueError where it should name a class and does not."""
        if member.path.rpartition("/")[2].startswith("."):
            return  # as the files that macOS packs beside each of one's own
        plain = info.isreg() and not info.issparse()
        if not member.name.lower().endswith(SUFFIXES):
            if plain and _extension(member.path) == "cls":
                self.classes[_key(member.path)] = _class_name(member)
        elif plain:
            self.images.append(member)
        elif info.islnk():
            self.links.append((member, info.linkname))
        elif not info.isdir():
            self.rejected.append(Rejected(member, "This is no file, and no hard link to one."))

    def follow_links(self) -> None:
        """Count hard links among the images: each is where the file is that it leads to."""
        targets = {image.path: image for image in self.images} if self.links else {}
        for link, path in self.links:
            if path in targets:
                self.images.append(replace(targets[path], path=link.path))
            else:
                self.rejected.append(Rejected(link, "This is a link to no image of its archive."))


def read(archive: Path, beside: Counter[str]) -> Iterator[Placed | Rejected]:
    """Each image of an archive, with the folders that it is in, or why it cannot be used.

    A sample's class counts as the innermost folder. Its masks and the like, which lie beside its
    image, are no images of the class: their extensions are counted in `beside`.

    Raises:
        UserError: the archive is damaged.
    """
    index = _Index()
    try:
        for info in _infos(archive):
            index.add(info, Member(archive, info.name, info.offset_data, info.size))
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"The archive {archive} cannot be read: {error}. Make it again.") from None
    index.follow_links()
    if index.classes:
        yield from _samples(index, beside)
    else:
        yield from ((_folders(image), image) for image in index.images)
    yield from index.rejected


def _samples(index: _Index, beside: Counter[str]) -> Iterator[Placed | Rejected]:
    """The images of samples: `key.jpg`. Beside it `key.seg.png` is a mask, or the like."""
    whole = {_key(image.path) for image in index.images if "." not in _extension(image.path)}
    for image in index.images:
        key, extension = _key(image.path), _extension(image.path)
        if key not in index.classes:
            yield Rejected(image, "Its sample has no .cls file, so no class.")
        elif "." not in extension:
            yield (*_folders(image), index.classes[key]), image
        elif key in whole:
            beside[extension] += 1
        else:
            suffix = extension.rpartition(".")[2]
            yield Rejected(image, f"Its sample has no image that is named KEY.{suffix}.")


def _infos(archive: Path) -> Iterator[tarfile.TarInfo]:
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
            yield info


def _key(path: str) -> str:
    """A sample's key: the path up to the first dot of the file's name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _extension(path: str) -> str:
    """What a file is in its sample: its name after the first dot."""
    return path.rpartition("/")[2].partition(".")[2]


def _folders(image: Member) -> tuple[str, ...]:
    return tuple(part for part in image.path.split("/")[:-1] if part not in {"", "."})


def _class_name(member: Member) -> str:
    if member.size > _MAX_CLASS_BYTES:
        raise ValueError(f"{member.path} is too large to be the name of a class")
    name = member.read_bytes().decode().strip()
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"{member.path} holds {name!r}, which is no name for a class")
    return name
