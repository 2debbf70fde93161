"""Where batches come from: pixels that are augmented anew, or features of a frozen backbone."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Batch = tuple[Tensor, Tensor]
"""What the network sees of N images, and their labels, int64 (N,)."""


class Source(Protocol):
    """The images of one split as the network sees them."""

    def __len__(self) -> int:
        """The number of images."""

    def training_batches(
        self, *, batch_size: int, seed: int, epoch: int, first_step: int
    ) -> Iterator[Batch]:
        """One epoch's batches in random order, from a given step on.

        Order and views follow from the seed and the epoch alone, so a resumed epoch goes on as it
        would have gone without the interruption.
        """

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """The views that serving sees too, in order."""

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
