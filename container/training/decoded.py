"""Every image decoded once: upright RGB, shorter side at the evaluation size, in one mapped file.

The file lies in the system's temporary directory and has no name, so it goes with the process;
the operating system keeps in memory what fits. Unreadable images are left out and listed.
"""

import csv
import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from container import processors
from container.errors import UserError
from container.image_files import ImageFile, Rejected
from container.images import ImageError, Pixels, decode
from container.progress import track
from container.stopping import StopSignal
from container.training.dataset import Split

T = TypeVar("T")
MAX_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class DecodedImages:
    """The readable images of one split; `images[i]` has shape (height, width, 3)."""

    images: tuple[Pixels, ...]
    labels: NDArray[np.int64]
    paths: tuple[ImageFile, ...]
    rejected: tuple[Rejected, ...]

    def __len__(self) -> int:
        return len(self.images)


class SplitImages(Protocol):
    """The readable images of one split, decoded now or when asked for."""

    @property
    def images(self) -> Sequence[Pixels]:
        """Pixels of each image, (height, width, 3)."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The number of each image's class."""

    @property
    def paths(self) -> tuple[ImageFile, ...]:
        """The file of each image."""

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """The files that cannot be read."""

    def __len__(self) -> int:
        """The number of readable images."""


def decode_split(
    split: Split, short_side: int, name: str, stop: StopSignal, *, crop: int | None = None
) -> DecodedImages:
    """Decode the images of a split on all cores, in order; see `container.images.decode`.

    Raises:
        UserError: the temporary directory is full.
        Stopped: the job was asked to stop.
    """
    shapes: list[tuple[int, ...]] = []
    kept: list[int] = []
    rejected: list[Rejected] = []
    with tempfile.TemporaryFile() as file:
        outcomes = decode_files(
            split.paths, lambda path: decode(path.read_bytes(), short_side, crop=crop)
        )
        for index, outcome in enumerate(track(outcomes, total=len(split), description=name)):
            stop.check()
            if isinstance(outcome, Rejected):
                rejected.append(outcome)
                continue
            _write(file.fileno(), outcome)
            shapes.append(outcome.shape)
            kept.append(index)
        images = _map(file.fileno(), shapes)
    labels = np.array([split.labels[index] for index in kept], dtype=np.int64)
    paths = tuple(split.paths[index] for index in kept)
    return DecodedImages(images, labels, paths, tuple(rejected))


@dataclass(frozen=True)
class Census:
    """What there is of the job's images beside what this process holds."""

    rejected: Sequence[Rejected]
    """What has no class, and what other processes cannot read of theirs."""
    readable: int
    """The readable images of all processes."""
    lost: str = ""
    """What has no readable image anywhere, in words."""


def check_rejected(
    splits: Mapping[str, SplitImages], census: Census, limit: float, report: Path
) -> int:
    """List the images that cannot be used in a CSV file, and say how many there are.

    Raises:
        UserError: their share is above the limit, or nothing is left of a split or a class.
    """
    rejected = [
        *census.rejected,
        *(entry for split in splits.values() for entry in split.rejected),
    ]
    report.unlink(missing_ok=True)
    if not rejected:
        return 0
    report.parent.mkdir(parents=True, exist_ok=True)
    with report.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "reason"))
        writer.writerows((str(entry.path), entry.reason) for entry in rejected)
    total = len(rejected) + census.readable
    listed = f"The first is {rejected[0].path}: {rejected[0].reason} All are listed in {report}."
    if census.lost:
        raise UserError(
            f"{census.lost} can be read; of all {total} images {len(rejected)} cannot. {listed}"
        )
    if len(rejected) > limit * total:
        raise UserError(
            f"{len(rejected)} of {total} images cannot be used, and rejected-limit allows a share "
            f"of {limit:g}. {listed}"
        )
    return len(rejected)


def decode_files(
    paths: Sequence[ImageFile], decoder: Callable[[ImageFile], T]
) -> Iterator[T | Rejected]:
    """Decode in threads (Pillow lets go of the interpreter), few images ahead of the reader."""
    remaining = iter(paths)
    with ThreadPoolExecutor(processors.available()) as pool:
        waiting: list[Future[T | Rejected]] = [
            pool.submit(_decode_file, path, decoder) for path in islice(remaining, 64)
        ]
        try:
            while waiting:
                yield waiting.pop(0).result()
                for path in islice(remaining, 1):
                    waiting.append(pool.submit(_decode_file, path, decoder))
        finally:
            for future in waiting:
                future.cancel()


def _decode_file(path: ImageFile, decoder: Callable[[ImageFile], T]) -> T | Rejected:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return Rejected(path, f"The file is larger than {MAX_FILE_BYTES // 2**20} MiB.")
        return decoder(path)
    except ImageError as error:
        return Rejected(path, str(error))
    except OSError as error:
        return Rejected(path, f"The file cannot be read: {error.strerror}.")


def _write(descriptor: int, pixels: Pixels) -> None:
    content = memoryview(pixels.tobytes())
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"The disk of {tempfile.gettempdir()} is full: the decoded images need more room. "
                "Set TMPDIR to a directory on a larger disk, or lower image-size."
            ) from None
        raise


def _map(descriptor: int, shapes: list[tuple[int, ...]]) -> tuple[Pixels, ...]:
    if not shapes:
        return ()
    with os.fdopen(os.dup(descriptor), "rb") as file:
        buffer = np.memmap(file, dtype=np.uint8, mode="r")
    ends = np.cumsum([height * width * depth for height, width, depth in shapes])
    starts = (0, *ends[:-1])
    return tuple(
        np.asarray(buffer[start:end]).reshape(shape)
        for start, end, shape in zip(starts, ends, shapes, strict=True)
    )
