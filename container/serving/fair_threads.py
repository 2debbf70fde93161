"""The threads that requests of several images share, and what waits for them.

There is one for each processor, so that such requests leave the processors to those of one image.
"""

import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from container.serving.engines.turns import SMOOTHING, OverloadedError

AHEAD = 2
"""Images of one request that are handed over at a time, for each of the threads: of several
requests each has its share, and the second is not behind all images of the first."""

Given = TypeVar("Given")
Made = TypeVar("Made")


class FairThreads:
    """Safe to use from many threads."""

    def __init__(self, count: int) -> None:
        self.waiting = 0
        """Images that are not begun yet, of all requests."""
        self._count = count
        self._queued = 0
        """Those of them that have been handed over."""
        self._average = 0.0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(count, "helper")

    def map(
        self, work: Callable[[Given], Made], given: Sequence[Given], *, patience: float
    ) -> list[Made]:
        """What `work` makes of each, in order.

        Raises:
            OverloadedError: the first would be begun in more than `patience` seconds.
        """
        self._admit(len(given), patience)
        futures: list[Future[Made]] = []
        try:
            for place, one in enumerate(given):
                if place >= AHEAD * self._count:
                    futures[place - AHEAD * self._count].result()
                with self._lock:
                    self._queued += 1
                futures.append(self._pool.submit(self._run, work, one))
            return [future.result() for future in futures]
        finally:
            with self._lock:
                self.waiting -= len(given) - len(futures)  # which a failure has left

    def _admit(self, count: int, patience: float) -> None:
        with self._lock:
            expected = self._average * self._queued / self._count
            if expected > patience:
                raise OverloadedError(math.ceil(expected))
            self.waiting += count

    def _run(self, work: Callable[[Given], Made], one: Given) -> Made:
        with self._lock:
            self._queued -= 1
            self.waiting -= 1
        started = time.monotonic()
        try:
            return work(one)
        finally:
            seconds = time.monotonic() - started
            with self._lock:
                self._average += SMOOTHING * (seconds - self._average)


_making = threading.Lock()


def fair_threads(count: int) -> FairThreads:
    """This process's, which all its models share: `count` threads, the same at every call.

    They start with their first work, in the worker process, since threads do not survive a fork.
    """
    with _making:
        return _made(count)


@functools.cache
def _made(count: int) -> FairThreads:
    return FairThreads(count)
