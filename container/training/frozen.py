"""Training on a frozen backbone: each image is decoded once, its features computed once a view.

What a step then costs is one matrix product. The backbone's batch normalisation uses its trained
statistics, as in evaluation.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from container import processors
from container.images import Pixels, Preprocessing, center_crop, decode
from container.progress import track
from container.training.augmentation import Augmentation
from container.training.backbone import Backbone
from container.training.dataset import Split
from container.training.decoded import Rejected, decode_files
from container.training.feature_store import Features, FeatureStore, Key
from container.training.stopping import StopSignal

PLAIN = "plain"
MIRRORED = "mirrored"
ROWS_PER_FILE = 4096


@dataclass(frozen=True)
class FrozenImages:
    """The readable images of one split as features."""

    features: Tensor
    """float32 (N, views, channels); view 0 is the one that serving sees."""
    labels: NDArray[np.int64]
    images: "DecodedLater"
    paths: tuple[Path, ...]
    rejected: tuple[Rejected, ...]

    def __len__(self) -> int:
        return len(self.labels)


class DecodedLater(Sequence[Pixels]):
    """The pixels of images of which only the features are kept, decoded when asked for."""

    def __init__(self, paths: Sequence[Path], short_side: int) -> None:
        self._paths = paths
        self._short_side = short_side

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            return DecodedLater(self._paths[index], self._short_side)
        return decode(self._paths[index].read_bytes(), self._short_side)


def view_names(count: int, *, flip: bool, crop_scale: float) -> tuple[str, ...]:
    """The views of a training image: itself, its mirror image, then random crops."""
    names = [PLAIN, *([MIRRORED] if flip else [])]
    crops = [
        f"crop {number} of at least {crop_scale:g}{', mirrored at random' * flip}"
        for number in range(count - len(names))
    ]
    return tuple([*names, *crops][:count])


class FeatureExtractor:
    """Computes what the store lacks, and reads the rest."""

    def __init__(
        self,
        backbone: Backbone,
        store: FeatureStore,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        stop: StopSignal,
    ) -> None:
        self.backbone = backbone
        self.store = store
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.stop = stop
        self.computed = 0
        """Views that no earlier run had left in the store."""

    def extract(self, splits: dict[str, tuple[Split, tuple[str, ...]]]) -> dict[str, FrozenImages]:
        """The features of every split, for each its own views.

        Raises:
            UserError: the cache's disk is full.
            Stopped: the job was asked to stop; what was computed so far is in the store.
        """
        paths = list(dict.fromkeys(path for split, _ in splits.values() for path in split.paths))
        digests = dict(zip(paths, _digests(paths), strict=True))
        wanted = {path: views for split, views in splits.values() for path in split.paths}
        found = self.store.read()
        rejected: dict[Path, Rejected] = {}
        if any((digests[path], view) not in found for path in paths for view in wanted[path]):
            with self.store.computing():
                found = self.store.read()
                missing = {
                    path: [view for view in views if (digests[path], view) not in found]
                    for path, views in wanted.items()
                }
                self._compute(
                    {path: views for path, views in missing.items() if views},
                    digests,
                    found,
                    rejected,
                )
        return {
            name: self._gather(split, views, digests, found, rejected)
            for name, (split, views) in splits.items()
        }

    def _compute(
        self,
        missing: Mapping[Path, Sequence[str]],
        digests: dict[Path, bytes],
        found: dict[Key, Features],
        rejected: dict[Path, Rejected],
    ) -> None:
        """Add what is missing to `found` and to the store, in parts that a kill leaves whole."""
        unsaved: dict[Key, Features] = {}
        try:
            for key, row in self._rows(missing, digests, rejected):
                unsaved[key] = row
                self.computed += 1
                if len(unsaved) == ROWS_PER_FILE:
                    self.store.write(unsaved)
                    found |= unsaved
                    unsaved = {}
        finally:
            self.store.write(unsaved)
            found |= unsaved

    def _rows(
        self,
        missing: Mapping[Path, Sequence[str]],
        digests: dict[Path, bytes],
        rejected: dict[Path, Rejected],
    ) -> Iterator[tuple[Key, Features]]:
        keys: list[Key] = []
        images: list[Pixels] = []
        size = self.backbone.batch_size
        outcomes = decode_files(tuple(missing), self.preprocessing.resize_size)
        shown = track(outcomes, total=len(missing), description="Computing features")
        for (path, views), outcome in zip(missing.items(), shown, strict=True):
            self.stop.check()
            if isinstance(outcome, Rejected):
                rejected[path] = outcome
                continue
            keys += [(digests[path], view) for view in views]
            images += [self._view(outcome, digests[path], view) for view in views]
            while len(images) >= size:
                yield from zip(keys, self.backbone.features(np.stack(images[:size])), strict=False)
                del keys[:size], images[:size]
        if images:
            yield from zip(keys, self.backbone.features(np.stack(images)), strict=True)

    def _view(self, pixels: Pixels, digest: bytes, view: str) -> Pixels:
        if view == PLAIN:
            return center_crop(pixels, self.preprocessing.image_size)
        if view == MIRRORED:
            return center_crop(pixels, self.preprocessing.image_size)[:, ::-1]
        # Any run that asks for this view of this image gets the same one.
        seed = hashlib.sha256(digest + view.encode()).digest()
        return self.augmentation(pixels, np.random.default_rng(list(seed)))

    def _gather(
        self,
        split: Split,
        views: tuple[str, ...],
        digests: dict[Path, bytes],
        found: dict[Key, Features],
        rejected: dict[Path, Rejected],
    ) -> FrozenImages:
        kept = [index for index, path in enumerate(split.paths) if path not in rejected]
        paths = tuple(split.paths[index] for index in kept)
        rows = [[found[digests[path], view] for view in views] for path in paths]
        return FrozenImages(
            features=torch.from_numpy(np.array(rows, dtype=np.float32)),
            labels=np.array([split.labels[index] for index in kept], dtype=np.int64),
            images=DecodedLater(paths, self.preprocessing.resize_size),
            paths=paths,
            rejected=tuple(rejected[path] for path in split.paths if path in rejected),
        )


def _digests(paths: Sequence[Path]) -> list[bytes]:
    with ThreadPoolExecutor(processors.available()) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""  # what cannot be read is rejected when it is decoded
