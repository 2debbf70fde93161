"""When those who are refused may come back: the more they are the later, and not all at once."""

import math
import random
import threading
import time
from collections.abc import Callable

A_SECOND = 8
"""Refusals that take no time worth mentioning: three cost about one answer. For as many again, some
are asked to stay away for one second more."""
LONGEST_SECONDS = 10
SMOOTHING_SECONDS = 5.0
"""How long a refusal counts: a short burst is asked back soon."""


class Refusals:
    """Safe to use from many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._per_second = 0.0
        self._last = clock()
        self._lock = threading.Lock()

    def retry_after(self) -> int:
        """Count a refusal; the seconds after which it is to be tried again, some at random."""
        with self._lock:
            now = self._clock()
            self._per_second *= math.exp((self._last - now) / SMOOTHING_SECONDS)
            self._per_second += 1 / SMOOTHING_SECONDS
            self._last = now
            longest = 1 + int(self._per_second / A_SECOND)
        return random.randint(1, min(longest, LONGEST_SECONDS))  # noqa: S311  it hides nothing
