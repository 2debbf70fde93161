"""Batches for an engine that is faster with several images at once, as one on a GPU is."""

import queue
import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from container.images import Pixels
from container.serving.engines.engine import Engine, Scores
from container.serving.engines.turns import OverloadedError


class Batcher:
    """One thread that feeds the engine whatever has come in while it was busy.

    A batch never waits to become fuller: with an idle engine an image is a batch of its own. The
    thread ends with the batcher.
    """

    def __init__(self, engine: Engine, *, patience: float) -> None:
        self.batches: Counter[int] = Counter()
        """How many batches there were so far of each number of images."""
        self._patience = patience
        self._incoming: _Incoming = queue.SimpleQueue()
        # It must not hold the batcher, which could never end then.
        thread = threading.Thread(
            target=_feed, args=(engine, self._incoming, self.batches), name="batcher", daemon=True
        )
        thread.start()
        self._finalizer = weakref.finalize(self, _end, self._incoming, thread)

    @property
    def waiting(self) -> int:
        """Images that are not yet in a batch."""
        return self._incoming.qsize()

    def scores(self, images: Sequence[Pixels]) -> Scores:
        """Logits (n, classes) of preprocessed images, in whatever batches they end up.

        Raises:
            OverloadedError: an image was not in a batch within `patience` seconds.
        """
        deadline = time.monotonic() + self._patience
        items = [_Item(image, deadline) for image in images]
        for item in items:
            self._incoming.put(item)
        return np.stack([item.scores.result() for item in items])


class _Item:
    """An image, when it is too late for it, and where its scores will be."""

    def __init__(self, image: Pixels, deadline: float) -> None:
        self.image = image
        self.deadline = deadline
        self.scores: Future[Scores] = Future()


_Incoming = queue.SimpleQueue[_Item | None]
"""None is the end."""


def _feed(engine: Engine, incoming: _Incoming, batches: Counter[int]) -> None:
    ended = False
    while not ended:
        items = [incoming.get()]
        while len(items) < engine.batch and not incoming.empty():
            items.append(incoming.get())
        ended = None in items
        _score(engine, [item for item in items if item is not None], batches)
        del items  # while it waits for the next image, it holds no old one


def _score(engine: Engine, items: list[_Item], batches: Counter[int]) -> None:
    now = time.monotonic()
    for item in items:
        if item.deadline < now:
            item.scores.set_exception(OverloadedError(1))
    timely = [item for item in items if item.deadline >= now]
    if not timely:
        return
    try:
        scores = engine.scores(np.stack([item.image for item in timely]))
    except Exception as error:  # each request answers for itself; the thread lives on
        for item in timely:
            item.scores.set_exception(error)
        return
    batches[len(timely)] += 1
    for item, row in zip(timely, scores, strict=True):
        item.scores.set_result(row)


def _end(incoming: _Incoming, thread: threading.Thread) -> None:
    incoming.put(None)
    if thread is not threading.current_thread():
        thread.join()
