"""Batches of a few fixed sizes, in memory that never moves, each with a recorded pass.

A recording, such as a CUDA graph, repeats the same work on the same addresses. So an image goes to
its place in the one input, the batch is padded to the next size that was recorded, and the scores
are read from the one output. What records is a `Recorder`; nothing here knows of CUDA.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from container.serving.engines.engine import Images, Scores, allowed_difference

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Every size that is recorded. A batch does less than twice the work that its images need."""

Forward = Callable[[Tensor], Tensor]
"""From uint8 images (n, size, size, 3) on the device to float32 logits (n, classes)."""


class Recorder(Protocol):
    """What turns work into something that repeats it."""

    def turn(self) -> AbstractContextManager[None]:
        """While it lasts, nobody else records or repeats on the same device."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Repeats the work, on the same memory. Called in a turn. Raises RuntimeError."""
        ...


class RecordedBatches:
    """The network's passes over batches of every size. Safe to call from many threads."""

    def __init__(
        self,
        forward: Forward,
        recorder: Recorder,
        samples: Images,
        *,
        classes: int,
        precision: str,
        device: torch.device,
    ) -> None:
        """Record all sizes, and compare what each recording says of the samples with `forward`.

        Raises:
            RuntimeError: a size cannot be recorded, or its recording gives other answers.
        """
        self._forward = forward  # recordings know the addresses of its weights only
        self._recorder = recorder
        images = torch.from_numpy(np.resize(samples, (SIZES[-1], *samples.shape[1:])))
        # The device copies from and to pinned memory without a detour.
        pinned = device.type == "cuda"
        self._host_images = torch.empty(images.shape, dtype=torch.uint8, pin_memory=pinned)
        self._host_scores = torch.empty(SIZES[-1], classes, pin_memory=pinned)
        with recorder.turn(), torch.inference_mode():
            self._images = images.to(device)
            self._scores = torch.empty(SIZES[-1], classes, device=device)
        self._replays: dict[int, Callable[[], None]] = {}
        # From the largest: the others then fit into the memory that it took.
        for size in reversed(SIZES):
            # A turn for each size, so that other models' requests wait for one at most.
            with recorder.turn(), torch.inference_mode():
                self._replays[size] = recorder.record(self._work(size))
                self._compare(size, precision)

    def _work(self, size: int) -> Callable[[], None]:
        forward, images, scores = self._forward, self._images[:size], self._scores[:size]

        # No intermediate outlives the work, so recordings may share memory and come in any order.
        def work() -> None:
            scores.copy_(forward(images))

        return work

    def _compare(self, size: int, precision: str) -> None:
        """Raises RuntimeError."""
        expected = self._forward(self._images[:size]).cpu().numpy()
        self._scores.fill_(torch.nan)  # which no comparison takes for an answer
        self._replays[size]()
        difference = np.abs(self._scores[:size].cpu().numpy() - expected).max()
        if not difference <= allowed_difference(expected, precision):
            raise RuntimeError(
                f"a recorded batch of {size} gives scores that differ by {difference:.3g}"
            )

    def __call__(self, images: Images) -> Scores:
        """Logits (n, classes) of at most as many images as the largest size."""
        count = len(images)
        with self._recorder.turn(), torch.inference_mode():
            self._host_images.numpy()[:count] = images
            # Behind them lie earlier images, whose scores nobody reads.
            self._images[:count].copy_(self._host_images[:count], non_blocking=True)
            self._replays[padded(count)]()
            # Waits until all of it is done.
            self._host_scores[:count].copy_(self._scores[:count])
            scores: Scores = self._host_scores.numpy()[:count].copy()
            return scores


def padded(count: int) -> int:
    """The smallest size that holds so many images, of which there are at most `SIZES[-1]`."""
    return next(size for size in SIZES if size >= count)


def record_or_none(make: Callable[[], RecordedBatches]) -> RecordedBatches | None:
    """None, with a sentence in the log, where recording fails: the network answers without it."""
    try:
        return make()
    except RuntimeError as error:  # torch's own errors, lack of memory among them, are such
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        log.warning("CUDA graphs cannot be used: %s. Going on without them.", reason)
        return None
