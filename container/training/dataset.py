"""Which images there are, of which class, and in which split. Decodes nothing.

Channels may be `train`, `validation` (or `valid`) and `test`; or one channel that holds those
folders; or one folder of classes, which is split here. Any of them may be an archive.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.images import SUFFIXES
from container.training.archives import is_archive, unpack

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Split:
    """The images of one split: `paths[i]` belongs to the class with number `labels[i]`."""

    paths: tuple[Path, ...]
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
    """All images of a job. Classes are in the order of their names."""

    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def splits(self) -> dict[str, Split]:
        """Every split by its name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def digest(self) -> str:
        """A fingerprint of names, sizes and labels, equal wherever the data is mounted."""
        digest = hashlib.sha256()
        for split in self.splits().values():
            for path, label in zip(split.paths, split.labels, strict=True):
                digest.update(f"{path.name}\0{path.stat().st_size}\0{label}\n".encode())
            digest.update(b"\n")
        return digest.hexdigest()


def find(channels: Mapping[str, Path], hyperparameters: Hyperparameters, scratch: Path) -> Dataset:
    """Find the images of every split; archives are unpacked under `scratch`.

    Raises:
        UserError: no images, fewer than two classes, or classes that differ between splits.
    """
    roots = _split_roots(channels, scratch)
    folders = {split: _class_folders(root) for split, root in roots.items()}
    classes = tuple(sorted(folders["train"]))
    if len(classes) < 2:
        raise UserError(
            f"{roots['train']} must hold one folder of images per class, at least two; "
            f"found {', '.join(classes) or 'none'}."
        )
    for split, found in folders.items():
        unknown = sorted(set(found) - set(classes))
        if unknown:
            raise UserError(
                f"The {split} images have classes that the training images lack: "
                f"{', '.join(unknown[:5])}. Each needs a folder in {roots['train']}."
            )
    splits = {split: _list_images(found, classes) for split, found in folders.items()}
    empty = sorted(set(range(len(classes))) - set(splits["train"].labels))
    if empty:
        raise UserError(
            f"There are no training images in {folders['train'][classes[empty[0]]]}, so its class "
            f"cannot be learned; names must end in {', '.join(SUFFIXES)}."
        )
    return _complete(classes, splits, hyperparameters)


def _split_roots(channels: Mapping[str, Path], scratch: Path) -> dict[str, Path]:
    """The folder of classes of each split that was given; `train` is always there."""
    roots: dict[str, Path] = {}
    for split, names in _SPLIT_NAMES.items():
        for name in names:
            if name in channels:
                if split in roots:
                    raise UserError(f"The {split} images are given in two channels; keep one.")
                roots[split] = _data_root(channels[name], scratch / name)
    if "train" not in roots:
        raise UserError(
            f"There is no channel named train or training; found {', '.join(channels) or 'none'}."
        )
    return roots | _nested_splits(roots["train"])


def _nested_splits(root: Path) -> dict[str, Path]:
    """The split folders in one directory, or the directory itself as `train`."""
    by_name = {path.name.lower(): path for path in _folders(root)}
    if not any(name in by_name for name in _SPLIT_NAMES["train"]):
        return {"train": root}
    return {
        split: by_name[name]
        for split, names in _SPLIT_NAMES.items()
        for name in names
        if name in by_name
    }


def _data_root(channel: Path, scratch: Path) -> Path:
    """The channel's own folder, or what its archive holds; lone wrapping folders are opened."""
    if not channel.is_dir():
        raise UserError(f"The channel {channel.name} has no directory {channel}.")
    archives = sorted(path for path in channel.iterdir() if is_archive(path))
    root = channel
    if archives:
        for archive in archives:
            unpack(archive, scratch)
        root = scratch
    folders = _folders(root)
    while len(folders) == 1 and _folders(folders[0]):
        root = folders[0]
        folders = _folders(root)
    return root


def _folders(directory: Path) -> list[Path]:
    return [
        path
        for path in sorted(directory.iterdir())
        if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
    ]


def _class_folders(root: Path) -> dict[str, Path]:
    return {path.name: path for path in _folders(root)}


def _list_images(folders: Mapping[str, Path], classes: Sequence[str]) -> Split:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if name not in folders:
            continue
        # os.walk does not follow links to folders, so a loop of links ends.
        for directory, subdirectories, files in os.walk(folders[name]):
            subdirectories.sort()
            for file in sorted(files):
                if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                    paths.append(Path(directory, file))
                    labels.append(label)
    return Split(tuple(paths), tuple(labels))


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
