"""A channel's images as a tree of folders, whether they lie on disk or in archives."""

import errno
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from container.errors import UserError
from container.image_files import ImageFile, Member, Rejected
from container.images import SUFFIXES
from container.progress import say
from container.stopping import StopSignal
from container.training import archives, tar_shards

_IGNORED = (".", "__MACOSX")
_LINKED_LEVELS = 2
"""Links may be followed to the folders of splits and of classes: so deep below the channel."""


@dataclass
class Folder:
    """A folder: its name for people, the folders in it, and the images right in it."""

    title: str
    folders: dict[str, "Folder"] = field(default_factory=dict)
    images: list[ImageFile] = field(default_factory=list)

    def inside(self, *names: str) -> "Folder":
        """The folder at a path below this one, made where it is missing."""
        folder = self
        for name in names:
            folder = folder.folders.setdefault(name, Folder(f"{folder.title}/{name}"))
        return folder

    def add(self, other: "Folder") -> None:
        """Put in here what another folder holds."""
        self.images += other.images
        for name, folder in other.folders.items():
            self.inside(name).add(folder)

    def forget_empty(self) -> None:
        """Leave out the folders in here that hold no image: they are no classes."""
        self.folders = {name: each for name, each in self.folders.items() if any(each.all_images())}

    def opened(self, *names: str) -> "Folder":
        """The folder at a path below, with the images on the way: no folder in it has them."""
        folder = self
        for name in names:
            inner = folder.inside(name)
            folder = Folder(inner.title, inner.folders, [*folder.images, *inner.images])
        return folder

    def all_images(self) -> Iterator[ImageFile]:
        """The images in here and in every folder below, in the order of their names."""
        yield from sorted(self.images, key=lambda image: image.name)
        for _, folder in sorted(self.folders.items()):
            yield from folder.all_images()


def read_channel(
    channel: Path, scratch: Path, rejected: list[Rejected], stop: StopSignal
) -> Folder:
    """What a channel's folders and archives hold together.

    Uncompressed tar archives are read where they lie, others are unpacked under `scratch`, each
    for itself: they may hold the same names. What cannot be used goes to `rejected`.

    Raises:
        UserError: there is no such channel, or a part of it cannot be read.
        Stopped: the job was asked to stop.
    """
    if not channel.is_dir():
        raise UserError(f"The channel {channel.name} has no directory {channel}.")
    try:
        found = sorted(path for path in channel.iterdir() if archives.is_archive(path))
    except OSError as error:
        raise _unreadable(channel, error) from None
    loose = Folder(str(channel))
    _add_files(loose, channel, (), rejected)
    if not found:
        return loose
    loose.forget_empty()
    if loose.folders:
        say(f"The channel {channel.name} holds archives and folders of images: both are used.")
    parts = [loose]
    beside: Counter[str] = Counter()
    for archive in found:
        stop.check()
        part = Folder(str(channel))
        if tar_shards.is_uncompressed(archive):
            _add_members(part, archive, rejected, beside)
        else:
            archives.unpack(archive, scratch / archive.name, rejected, stop)
            _add_files(part, scratch / archive.name, (), rejected)
        parts.append(part)
    if beside:
        counts = ", ".join(f"{count} .{name}" for name, count in beside.most_common(5))
        say(f"Not used, since they lie beside images of samples: {counts}.")
    return _together(parts)


def _together(parts: Sequence[Folder]) -> Folder:
    """What all parts hold; a folder that only wraps what others hold right away is opened."""
    holders = Counter(name for part in parts for name in part.folders)
    whole = Folder(parts[0].title)
    for part in parts:
        names = tuple(part.folders)
        inner = part.folders[names[0]].folders if len(names) == 1 else {}
        wraps = any(holders[name] for name in inner if name not in names)
        whole.add(part.opened(names[0]) if wraps and holders[names[0]] == 1 else part)
    return whole


def wrapper_names(folder: Folder, classes: Collection[str] = ()) -> list[str]:
    """The folders that hold one folder alone, each in the one before; no class is such a one."""
    names: list[str] = []
    while len(folder.folders) == 1:
        ((name, only),) = folder.folders.items()
        if not only.folders or name in classes:
            break
        names.append(name)
        folder = only
    return names


def _add_members(
    folder: Folder, archive: Path, rejected: list[Rejected], beside: Counter[str]
) -> None:
    for found in tar_shards.read(archive, beside):
        if isinstance(found, Rejected):
            rejected.append(found)
            continue
        names, member = found
        if not any(name.startswith(_IGNORED) for name in (*names, member.name)):
            folder.inside(*names).images.append(member)


def _add_files(
    folder: Folder, directory: Path, above: tuple[Path, ...], rejected: list[Rejected]
) -> None:
    """Add what a directory holds; a link that leads back up is passed over."""
    try:
        here = (*above, directory.resolve())
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.name.startswith(_IGNORED):
                continue
            is_folder, is_file = _kind(entry)
            if is_folder:
                # Links are followed to a class's folder, and none inside it: loops end.
                far = entry.is_symlink() and len(above) > _LINKED_LEVELS
                if not far and path.resolve() not in here:
                    _add_files(folder.inside(entry.name), path, here, rejected)
            elif entry.name.lower().endswith(SUFFIXES):
                if is_file:
                    folder.images.append(path)
                else:
                    rejected.append(Rejected(path, "This is not a file, or a link to none."))
    except OSError as error:
        raise _unreadable(directory, error) from None


_OF_LINKS = (errno.ELOOP, errno.EACCES, errno.EPERM)
"""What a link to itself gives, and one to where this user may not look: both are the link's own
fault. A disk that fails is not."""


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Whether it is a folder, and whether it is a file, or a link to one."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError as error:
        if error.errno not in _OF_LINKS:
            raise
        if not entry.name.lower().endswith(SUFFIXES):  # or it is listed
            say(f"Not used: {entry.path} cannot be read: {error.strerror}.")
        return False, False


def _unreadable(directory: Path, error: OSError) -> UserError:
    return UserError(
        f"The folder {directory} cannot be read: {error.strerror}. Make it readable for the user "
        "that training runs as."
    )


def by_place(images: list[tuple[ImageFile, int]]) -> list[tuple[ImageFile, int]]:
    """Members in the order in which their archives hold them, so that reading them streams."""
    return sorted(images, key=lambda each: _place(each[0]))


def _place(image: ImageFile) -> tuple[str, int]:
    return (str(image.archive), image.offset) if isinstance(image, Member) else ("", 0)
