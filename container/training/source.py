"""Where batches come from: pixels that are augmented anew, or features of a frozen backbone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Batch = tuple[Tensor, Tensor]
"""What the network sees of N images, and their labels, int64 (N,)."""


class Source(Protocol):
    """The images of one split as the network sees them."""

    def __len__(self) -> int:
        """The number of images, those of all processes together."""

    def training_batches(
        self, *, batch_size: int, seed: int, epoch: int, first_step: int
    ) -> Iterator[Batch]:
        """One epoch's batches in random order, from a given step on.

        Order and views follow from the seed and the epoch alone, so a resumed epoch goes on as it
        would have gone without the interruption.
        """

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """The views that serving sees too, in order: of many processes each gives its own."""

    def inputs(self, views: Tensor) -> Tensor:
        """The network's input from a batch's views, on the device where they are."""


def steps_per_epoch(images: int, batch_size: int) -> int:
    """The number of batches that hold all images."""
    return -(-images // batch_size)


def random_batches(
    images: int, *, batch_size: int, seed: int, epoch: int, first_step: int
) -> list[NDArray[np.int64]]:
    """The positions of each batch's images; the batches' sizes differ by one at most."""
    order = np.random.default_rng((seed, epoch)).permutation(images)
    return np.array_split(order, steps_per_epoch(images, batch_size))[first_step:]


@dataclass(frozen=True)
class Share:
    """Which of a split's images are for this process, of `size` that train together.

    Where all of them hold all images, they part each batch that a single process would train on.
    """

    rank: int = 0
    size: int = 1
    total: int | None = None
    """The images of all processes, where each holds others than the rest."""

    def images(self, held: int) -> int:
        """The images of all processes, of which this one holds so many."""
        return held if self.total is None else self.total

    def batches(
        self, held: int, *, batch_size: int, seed: int, epoch: int, first_step: int
    ) -> list[NDArray[np.int64]]:
        """The positions of this process's images in each batch of an epoch."""
        if self.total is not None:
            order = np.random.default_rng((seed, epoch, self.rank)).permutation(held)
            return np.array_split(order, steps_per_epoch(self.total, batch_size))[first_step:]
        batches = random_batches(
            held, batch_size=batch_size, seed=seed, epoch=epoch, first_step=first_step
        )
        return [np.array_split(batch, self.size)[self.rank] for batch in batches]

    def evaluated(self, held: int) -> range:
        """The positions of the images that this process evaluates."""
        if self.total is not None:
            return range(held)
        return range(held * self.rank // self.size, held * (self.rank + 1) // self.size)
