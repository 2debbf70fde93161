"""Batches of views, prepared in threads while the network works on the batch before."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from container.images import Pixels, center_crop
from container.training.augmentation import Augmentation
from container.training.decoded import DecodedImages

Batch = tuple[Tensor, Tensor]
"""uint8 images (N, size, size, 3) and int64 labels (N,)."""


def training_batches(
    images: DecodedImages,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int,
) -> Iterator[Batch]:
    """One epoch's batches in random order, from a given step on; sizes differ by one at most.

    Order and views follow from the seed and the epoch alone, so a resumed epoch goes on as it
    would have gone without the interruption.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(images))
    batches = np.array_split(order, steps_per_epoch(len(images), batch_size))[first_step:]

    def view(index: int) -> Pixels:
        return augmentation(images.images[index], np.random.default_rng((seed, epoch, index)))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        following = [pool.submit(view, index) for index in batches[0]] if batches else []
        for number, batch in enumerate(batches):
            current, following = following, []
            if number + 1 < len(batches):
                following = [pool.submit(view, index) for index in batches[number + 1]]
            yield _stack(current, images.labels[batch])


def evaluation_batches(
    images: DecodedImages, *, image_size: int, batch_size: int
) -> Iterator[Batch]:
    """The views that serving sees too, in order."""
    for start in range(0, len(images), batch_size):
        views = [
            center_crop(image, image_size) for image in images.images[start : start + batch_size]
        ]
        labels = torch.from_numpy(images.labels[start : start + batch_size])
        yield torch.from_numpy(np.stack(views)), labels


def steps_per_epoch(images: int, batch_size: int) -> int:
    """The number of batches that hold all images."""
    return -(-images // batch_size)


def _stack(views: Sequence[Future[Pixels]], labels: NDArray[np.int64]) -> Batch:
    stacked = np.stack([view.result() for view in views])
    return torch.from_numpy(stacked), torch.from_numpy(labels)
