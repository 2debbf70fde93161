"""Batches of pixels, with new views of the images in every epoch.

On a CPU the views of a batch are made on all cores just before its step: cores that made the next
batch's views meanwhile would keep the network's threads waiting for each other. For a GPU one
thread gathers the next batch while the GPU works, and the GPU itself makes the views.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from container import processors
from container.images import Pixels, Preprocessing, center_crop
from container.model import normalise
from container.training.augmentation import Augmentation, progressive_side
from container.training.decoded import DecodedImages
from container.training.device_views import as_canvas, as_tensor, resample
from container.training.source import Batch, Share

BATCHES_AHEAD = 2


class PixelSource:
    """uint8 views (N, side, side, 3) of decoded images.

    With `growing_over` a number of epochs, the views of early epochs are smaller.
    """

    def __init__(
        self,
        images: DecodedImages,
        augmentation: Augmentation,
        preprocessing: Preprocessing,
        share: Share,
        device: torch.device,
        growing_over: int | None = None,
    ) -> None:
        self._images = images
        self._augmentation = augmentation
        self._preprocessing = preprocessing
        self._share = share
        self._device = device
        self._growing_over = growing_over

    def __len__(self) -> int:
        return self._share.images(len(self._images))

    def training_batches(
        self, *, batch_size: int, seed: int, epoch: int, first_step: int
    ) -> Iterator[Batch]:
        """See Source."""
        batches = self._share.batches(
            len(self._images), batch_size=batch_size, seed=seed, epoch=epoch, first_step=first_step
        )
        side = self._side(epoch)
        if self._device.type == "cuda":
            yield from self._made_by_the_gpu(batches, (seed, epoch), side)
            return

        def view(index: int) -> Pixels:
            generator = np.random.default_rng((seed, epoch, index))
            return self._augmentation(self._images.images[index], generator, side)

        with ThreadPoolExecutor(processors.available()) as pool:
            for batch in batches:
                views = torch.from_numpy(np.stack(list(pool.map(view, batch))))
                yield views, torch.from_numpy(self._images.labels[batch])

    def _made_by_the_gpu(
        self, batches: Sequence[NDArray[np.int64]], seed: tuple[int, int], side: int
    ) -> Iterator[Batch]:
        def gather(batch: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
            images = [self._images.images[index] for index in batch]
            boxes = [
                self._augmentation.box(
                    image.shape[0], image.shape[1], np.random.default_rng((*seed, index))
                )
                for index, image in zip(batch, images, strict=True)
            ]
            labels = torch.from_numpy(self._images.labels[batch]).pin_memory()
            return as_canvas(images), as_tensor(images, boxes), labels

        def send(gathered: Future[tuple[Tensor, Tensor, Tensor]]) -> Batch:
            canvas, boxes, labels = gathered.result()
            canvas, boxes = (each.to(self._device, non_blocking=True) for each in (canvas, boxes))
            # Labels stay here, where their weights are added up without waiting for the GPU.
            return resample(canvas, boxes, side), labels

        with ThreadPoolExecutor(1) as pool:
            waiting: deque[Future[tuple[Tensor, Tensor, Tensor]]] = deque()
            for batch in batches:
                waiting.append(pool.submit(gather, batch))
                if len(waiting) > BATCHES_AHEAD:
                    yield send(waiting.popleft())
            while waiting:
                yield send(waiting.popleft())

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

    def _side(self, epoch: int) -> int:
        size = self._preprocessing.image_size
        if self._growing_over is None:
            return size
        return progressive_side(size, epoch, self._growing_over)
