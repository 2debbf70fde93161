"""Batches of pixels: new views in every epoch, made while the network works on the batch before."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from container import processors
from container.images import Pixels, Preprocessing, center_crop
from container.model import normalise
from container.training.augmentation import Augmentation
from container.training.decoded import DecodedImages
from container.training.source import Batch, Share


class PixelSource:
    """uint8 images (N, size, size, 3), augmented in threads."""

    def __init__(
        self,
        images: DecodedImages,
        augmentation: Augmentation,
        preprocessing: Preprocessing,
        share: Share,
    ) -> None:
        self._images = images
        self._augmentation = augmentation
        self._preprocessing = preprocessing
        self._share = share

    def __len__(self) -> int:
        return self._share.images(len(self._images))

    def training_batches(
        self, *, batch_size: int, seed: int, epoch: int, first_step: int
    ) -> Iterator[Batch]:
        """See Source."""
        batches = self._share.batches(
            len(self._images), batch_size=batch_size, seed=seed, epoch=epoch, first_step=first_step
        )

        def view(index: int) -> Pixels:
            generator = np.random.default_rng((seed, epoch, index))
            return self._augmentation(self._images.images[index], generator)

        with ThreadPoolExecutor(processors.available()) as pool:
            following = [pool.submit(view, index) for index in batches[0]] if batches else []
            for number, batch in enumerate(batches):
                current, following = following, []
                if number + 1 < len(batches):
                    following = [pool.submit(view, index) for index in batches[number + 1]]
                yield _stack(current, self._images.labels[batch])

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """See Source."""
        own = self._share.evaluated(len(self._images))
        for start in range(own.start, own.stop, batch_size):
            part = slice(start, min(start + batch_size, own.stop))
            size = self._preprocessing.image_size
            views = [center_crop(image, size) for image in self._images.images[part]]
            labels = torch.from_numpy(self._images.labels[part])
            yield torch.from_numpy(np.stack(views)), labels

    def inputs(self, views: Tensor) -> Tensor:
        """See Source."""
        return normalise(views, self._preprocessing)


def _stack(views: Sequence[Future[Pixels]], labels: NDArray[np.int64]) -> Batch:
    stacked = np.stack([view.result() for view in views])
    return torch.from_numpy(stacked), torch.from_numpy(labels)
