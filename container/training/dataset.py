"""Which images there are, of which class, and in which split. Decodes nothing.

Channels may be `train`, `validation` (or `valid`) and `test`; or one channel that holds those
folders; or one folder of classes, which is split here. Any of them may be archives.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.image_files import ImageFile, Rejected
from container.images import SUFFIXES
from container.progress import say
from container.stopping import StopSignal
from container.training.folders import Folder, by_place, read_channel, wrapper_names

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
_ANY_SPLIT = {name for names in _SPLIT_NAMES.values() for name in names}

_NAMES = "surrogateescape"
"""A file's name may be any bytes; this is how Python keeps those that are not UTF-8."""


@dataclass(frozen=True)
class Split:
    """The images of one split: `paths[i]` belongs to the class with number `labels[i]`."""

    paths: tuple[ImageFile, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Sequence[int]) -> "Split":
        """The images at these positions, in this order."""
        return Split(
            tuple(self.paths[index] for index in indices),
            tuple(self.labels[index] for index in indices),
        )


@dataclass(frozen=True)
class Dataset:
    """All images of a job. Classes are in the order of their names, or of their numbers."""

    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    rejected: tuple[Rejected, ...] = ()
    """Images that have no class, or are no files."""
    parted: bool = False
    """Whether the other processes hold other images."""

    def splits(self) -> dict[str, Split]:
        """Every split by its name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def digest(self) -> str:
        """The fingerprint of all images."""
        return fingerprint((split.paths, split.labels) for split in self.splits().values())


def fingerprint(
    splits: Iterable[tuple[Sequence[ImageFile], Iterable[int]]], *, with_sizes: bool = True
) -> str:
    """A digest of names, sizes and labels, equal wherever the data is mounted."""
    digest = hashlib.sha256()
    for paths, labels in splits:
        for path, label in zip(paths, labels, strict=True):
            size = _size(path) if with_sizes else ""
            digest.update(f"{path.name}\0{size}\0{label}\n".encode(errors=_NAMES))
        digest.update(b"\n")
    return digest.hexdigest()


def _size(path: ImageFile) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # when it is decoded it is rejected, with the reason


@dataclass(frozen=True)
class Found:
    """The folders of a job's channels, before it is said which classes there are."""

    roots: Mapping[str, Folder]
    """The folder of each split that was given; `train` is always there."""
    channels: Mapping[str, str]
    """The channel that each of them is from."""
    rejected: tuple[Rejected, ...]

    @property
    def classes(self) -> set[str]:
        """The names of the training images' folders, once these are opened."""
        return set(self.roots["train"].folders)

    @property
    def wrappers(self) -> list[str]:
        """The folders in which all training images of this machine are."""
        return wrapper_names(self.roots["train"])

    def opened(self, wrappers: Sequence[str]) -> "Found":
        """The same with the training images' folder opened to its classes, and splits beside it.

        Args:
            wrappers: the folders that are neither.

        Raises:
            UserError: one of those splits is given in a channel too.
        """
        nested = _nested_splits(self.roots["train"].opened(*wrappers))
        for split in nested.keys() - {"train"}:
            if split in self.roots:
                raise _given_twice(split)
        origins = dict.fromkeys(nested, self.channels["train"])
        return replace(self, roots={**self.roots, **nested}, channels={**self.channels, **origins})


def find(channels: Mapping[str, Path], hyperparameters: Hyperparameters, scratch: Path) -> Dataset:
    """Find the images of every split; archives that are not read in place go to `scratch`.

    Raises:
        UserError: no images, a split that is given twice, fewer than two classes, or classes that
            differ between splits.
    """
    found = look(channels, scratch, StopSignal())
    found = found.opened(found.wrappers)
    return assemble(found, found.classes, hyperparameters)


def look(channels: Mapping[str, Path], scratch: Path, stop: StopSignal) -> Found:
    """Find the folder of every split that has a channel. Raises UserError, and Stopped."""
    roots: dict[str, Folder] = {}
    origins: dict[str, str] = {}
    rejected: list[Rejected] = []
    for split, names in _SPLIT_NAMES.items():
        for name in names:
            if name in channels:
                if split in roots:
                    raise _given_twice(split)
                roots[split] = read_channel(channels[name], scratch / name, rejected, stop)
                origins[split] = name
    if "train" not in roots:
        raise UserError(
            f"There is no channel named train or training; found {', '.join(channels) or 'none'}."
        )
    return Found(roots, origins, tuple(rejected))


def _given_twice(split: str) -> UserError:
    return UserError(f"The {split} images are given in two channels; keep one.")


def assemble(found: Found, names: Collection[str], hyperparameters: Hyperparameters) -> Dataset:
    """Give every image its class's number, and split off what was not given.

    Args:
        found: the folders of this machine, opened.
        names: the classes of all machines.
        hyperparameters: say how much is split off.

    Raises:
        UserError: fewer than two classes, names that are no text, or classes that differ between
            splits.
    """
    numbered = all(name.isascii() and name.isdigit() for name in names)
    # Of equal numbers, such as 1 and 01, the name decides: sets have no order of their own.
    ordered = sorted(names, key=lambda name: (int(name), name)) if numbered else sorted(names)
    classes = tuple(ordered)
    roots = {
        split: folder if split == "train" else folder.opened(*wrapper_names(folder, classes))
        for split, folder in found.roots.items()
    }
    root = roots["train"].title
    if len(classes) < 2:
        raise UserError(
            f"{root} must hold one folder of images per class, at least two; "
            f"found {', '.join(classes) or 'none'}."
        )
    unwritable = [name for name in classes if name.encode(errors="ignore").decode() != name]
    if unwritable:
        raise UserError(
            f"The name of the folder {unwritable[0]!r} in {root} is not UTF-8, and the model has "
            "to hold it as its class; rename the folder."
        )
    for split, folder in roots.items():
        unknown = sorted(set(folder.folders) - set(classes))
        if unknown:
            raise UserError(
                f"The {split} images have classes that the training images lack: "
                f"{', '.join(unknown[:5])}. Each needs a folder in {root}."
            )
    splits = {split: _list_images(folder, classes) for split, folder in roots.items()}
    empty = sorted(set(range(len(classes))) - set(splits["train"].labels))
    if empty and names == found.classes:
        raise UserError(
            f"There are no training images in {root}/{classes[empty[0]]}, so its class "
            f"cannot be learned; names must end in {', '.join(SUFFIXES)}."
        )
    loose = [
        Rejected(image, "It is in no class's folder.")
        for folder in roots.values()
        for image in sorted(folder.images, key=lambda image: image.name)
    ]
    images = _complete(classes, splits, hyperparameters)
    return replace(images, rejected=(*found.rejected, *loose))


def _nested_splits(root: Folder) -> dict[str, Folder]:
    """The split folders in one folder, or the folder itself as `train`."""
    by_name = {
        name.lower(): folder for name, folder in root.folders.items() if name.lower() in _ANY_SPLIT
    }
    others = sorted(name for name in root.folders if name.lower() not in _ANY_SPLIT)
    # Beside classes a folder with images right in it is one too: vehicles have a class `train`.
    classes = others and not any(each.folders and not each.images for each in by_name.values())
    if classes or not any(name in by_name for name in _SPLIT_NAMES["train"]):
        return {"train": root}
    if others:
        say(f"Not used: {', '.join(others[:5])} in {root.title}, which are no splits of the data.")
    nested = {
        split: by_name[name]
        for split, names in _SPLIT_NAMES.items()
        for name in names
        if name in by_name
    }
    # Images beside the folders of the splits have no class.
    nested["train"] = replace(nested["train"], images=[*root.images, *nested["train"].images])
    return nested


def _list_images(root: Folder, classes: Sequence[str]) -> Split:
    images = by_place(
        [
            (image, label)
            for label, name in enumerate(classes)
            if name in root.folders
            for image in root.folders[name].all_images()
        ]
    )
    return Split(tuple(image for image, _ in images), tuple(label for _, label in images))


def _complete(
    classes: tuple[str, ...], splits: dict[str, Split], hyperparameters: Hyperparameters
) -> Dataset:
    """Split off what was not given: validation always, a test only from one folder of classes."""
    train = splits["train"]
    test = splits.get("test", Split((), ()))
    if "test" not in splits and "validation" not in splits and hyperparameters.test_split:
        train, test = _stratified(train, hyperparameters.test_split, hyperparameters.seed)
    validation = splits.get("validation")
    if validation is None:
        train, validation = _stratified(
            train, hyperparameters.validation_split, hyperparameters.seed
        )
    if not validation:
        raise UserError(
            f"There are no validation images: {len(train)} training images of {len(classes)} "
            "classes are too few to split some off. Add images, or raise validation-split."
        )
    return Dataset(classes, train, validation, test)


def _stratified(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Take the same share of every class; a class keeps at least one image of its own."""
    labels = np.array(split.labels)
    generator = np.random.default_rng(seed)
    taken: list[int] = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        taken += members[: min(round(share * len(members)), len(members) - 1)].tolist()
    kept = sorted(set(range(len(split))) - set(taken))
    return split.subset(kept), split.subset(sorted(taken))
