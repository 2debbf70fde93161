"""Training behind frozen layers: each image is decoded once, and they see each of its views once.

What they make of it is kept, so a step of the head costs one matrix product, and one of the last
stage a tenth of the network. Their batch normalisation uses its trained statistics, as in
evaluation.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from container import processors
from container.errors import UserError
from container.image_files import ImageFile, Rejected
from container.images import Pixels, Preprocessing, decode
from container.progress import say, track
from container.stopping import StopSignal
from container.training.augmentation import Augmentation
from container.training.backbone import Backbone
from container.training.dataset import Split
from container.training.decoded import MAX_FILE_BYTES, decode_files
from container.training.feature_store import FeatureStore, Key, StoredRows

PLAIN = "plain"
"""What serving sees of an image."""
MIRRORED = "mirrored"
ROWS_PER_FILE = 4096
BYTES_PER_FILE = 64 * 2**20


@dataclass(frozen=True)
class FrozenImages:
    """The readable images of one split as the frozen layers' rows."""

    rows: StoredRows
    positions: NDArray[np.int64]
    """(N, views), where each view's row is; view 0 is the one that serving sees."""
    labels: NDArray[np.int64]
    images: "DecodedLater"
    paths: tuple[ImageFile, ...]
    rejected: tuple[Rejected, ...]

    def __len__(self) -> int:
        return len(self.labels)


class DecodedLater(Sequence[Pixels]):
    """The pixels of images of which only the features are kept, decoded when asked for."""

    def __init__(
        self, paths: Sequence[ImageFile], short_side: int, crop: int | None = None
    ) -> None:
        self._paths = paths
        self._short_side = short_side
        self._crop = crop

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            return DecodedLater(self._paths[index], self._short_side, self._crop)
        data = self._paths[index].read_bytes()
        return decode(data, self._short_side, crop=self._crop)


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
        self._digests: dict[ImageFile, bytes] = {}
        """Of each image that was looked at; nothing where it could not be read."""

    def extract(
        self, splits: Mapping[str, tuple[Split, tuple[str, ...]]]
    ) -> dict[str, FrozenImages]:
        """What the frozen layers make of every split, for each its own views.

        Raises:
            UserError: the cache's disk is full, or would be.
            Stopped: the job was asked to stop; what was computed so far is in the store.
        """
        wanted = {path: views for split, views in splits.values() for path in split.paths}
        stored = self.store.read()
        rejected: dict[ImageFile, Rejected] = {}
        digests = self._read_digests(wanted)
        if any(key not in stored for key in self.keys(splits)):
            with self.store.computing(self.stop):
                stored = self.store.read()
                missing = {
                    path: [view for view in views if (digests[path], view) not in stored]
                    for path, views in wanted.items()
                }
                self._compute(
                    {p: views for p, views in missing.items() if views}, digests, rejected
                )
            stored = self.store.read()
        return {
            name: self._gather(split, views, digests, stored, rejected)
            for name, (split, views) in splits.items()
        }

    def keys(self, splits: Mapping[str, tuple[Split, tuple[str, ...]]]) -> Iterator[Key]:
        """Those of every view of the images; equal images have equal ones. Raises Stopped."""
        for split, views in splits.values():
            digests = self._read_digests(split.paths)
            yield from ((digests[path], view) for path in split.paths for view in views)

    def _read_digests(self, paths: Iterable[ImageFile]) -> dict[ImageFile, bytes]:
        """The digests of these images and of all others before, each read once. Raises Stopped."""
        new = [path for path in paths if path not in self._digests]
        self._digests.update(zip(new, _digests(new, self.stop), strict=True))
        return self._digests

    def _compute(
        self,
        missing: Mapping[ImageFile, Sequence[str]],
        digests: dict[ImageFile, bytes],
        rejected: dict[ImageFile, Rejected],
    ) -> None:
        """Add what is missing to the store, in parts that a kill leaves whole."""
        keys: list[Key] = []
        rows: list[Tensor] = []
        total = sum(map(len, missing.values()))
        try:
            for new_keys, new_rows in self._rows(missing, digests, rejected):
                if not self.computed:
                    self._check_room(total, new_rows[0].nbytes)
                keys += new_keys
                rows.append(new_rows)
                self.computed += len(new_keys)
                if len(keys) >= ROWS_PER_FILE or len(keys) * new_rows[0].nbytes >= BYTES_PER_FILE:
                    self.store.write(keys, torch.cat(rows))
                    keys, rows = [], []
        finally:
            if keys:
                self.store.write(keys, torch.cat(rows))

    def _check_room(self, rows: int, row_bytes: int) -> None:
        """Say what the cache will take. Raises UserError where the disk has less."""
        needed, free = rows * row_bytes, shutil.disk_usage(self.store.directory).free
        if needed > free:
            raise UserError(
                f"The cache {self.store.directory} needs {needed / 1e9:.1f} GB for these images "
                f"and has room for {free / 1e9:.1f} GB. Set KENNEL_CACHE_DIR to a larger disk, "
                "lower views, or set views to 0."
            )
        say(f"The cache takes {row_bytes / 1e3:.0f} KB a view, {needed / 1e6:.0f} MB in all.")

    def _rows(
        self,
        missing: Mapping[ImageFile, Sequence[str]],
        digests: dict[ImageFile, bytes],
        rejected: dict[ImageFile, Rejected],
    ) -> Iterator[tuple[list[Key], Tensor]]:
        keys: list[Key] = []
        images: list[Pixels] = []
        size = self.backbone.batch_size

        def views_of(path: ImageFile) -> list[Pixels]:
            data = path.read_bytes()
            # The disk may give now what it did not give before.
            digests[path] = digests[path] or hashlib.sha256(data).digest()
            return self._views(data, digests[path], missing[path])

        outcomes = decode_files(tuple(missing), views_of)
        shown = track(outcomes, total=len(missing), description="Computing features")
        for (path, views), outcome in zip(missing.items(), shown, strict=True):
            self.stop.check()
            if isinstance(outcome, Rejected):
                rejected[path] = outcome
                continue
            keys += [(digests[path], view) for view in views]
            images += outcome
            while len(images) >= size:
                yield keys[:size], self.backbone(np.stack(images[:size]))
                del keys[:size], images[:size]
        if images:
            yield keys, self.backbone(np.stack(images))

    def _views(self, data: bytes, digest: bytes, names: Sequence[str]) -> list[Pixels]:
        crops = set(names) - {PLAIN, MIRRORED}
        # The very function that serving calls; crops need more of the image than it keeps.
        square = self.preprocessing(data) if len(crops) < len(names) else None
        whole = decode(data, self.preprocessing.resize_size) if crops else None
        views: list[Pixels] = []
        for name in names:
            if whole is not None and name in crops:
                # Any run that asks for this view of this image gets the same one.
                seed = hashlib.sha256(digest + name.encode()).digest()
                generator = np.random.default_rng(list(seed))
                views.append(self.augmentation(whole, generator, self.preprocessing.image_size))
            elif square is not None:
                views.append(square if name == PLAIN else square[:, ::-1])
        return views

    def _gather(
        self,
        split: Split,
        views: tuple[str, ...],
        digests: dict[ImageFile, bytes],
        stored: StoredRows,
        rejected: dict[ImageFile, Rejected],
    ) -> FrozenImages:
        kept = [index for index, path in enumerate(split.paths) if path not in rejected]
        paths = tuple(split.paths[index] for index in kept)
        positions = [[stored.positions[digests[path], view] for view in views] for path in paths]
        return FrozenImages(
            rows=stored,
            positions=np.array(positions, np.int64).reshape(len(paths), len(views)),
            labels=np.array([split.labels[index] for index in kept], dtype=np.int64),
            images=DecodedLater(
                paths,
                self.preprocessing.resize_size,
                self.preprocessing.image_size if views == (PLAIN,) else None,
            ),
            paths=paths,
            rejected=tuple(rejected[path] for path in split.paths if path in rejected),
        )


def _digests(paths: Sequence[ImageFile], stop: StopSignal) -> list[bytes]:
    def digest(path: ImageFile) -> bytes:
        stop.check()  # in each thread: so what still waits for its turn ends at once
        return _digest(path)

    with ThreadPoolExecutor(processors.available()) as pool:
        return list(pool.map(digest, paths))


def _digest(path: ImageFile) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return b""
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""  # what cannot be read is rejected when it is decoded
