"""Who works now and who waits: so many at once, in order of arrival, none longer than allowed."""

import math
import threading
import time
from collections import deque
from types import TracebackType

SMOOTHING = 0.1
"""Share of the newest turn in the average from which the wait of the next one is foretold."""


class OverloadedError(Exception):
    """More is asked than can be answered in time; `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("The server has more to do than it can answer in time; try again.")
        self.retry_after = retry_after


class Turns:
    """A context manager that lets `lanes` threads in at once.

    Who would find too many waiting, or could foresee to wait longer than `patience` seconds, is
    turned away at once, before any work is done for it. An idle lane is given without any wait.
    """

    def __init__(self, lanes: int, *, limit: int, patience: float) -> None:
        self.lanes = lanes
        self.limit = limit
        self.patience = patience
        self.given = 0
        """Turns that are over."""
        self._lock = threading.Lock()
        self._tickets: deque[threading.Lock] = deque()
        self._running = 0
        self._average = 0.0
        self._own = threading.local()

    @property
    def running(self) -> int:
        """How many are at work."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._tickets)

    @property
    def present(self) -> int:
        """How many are at work or wait."""
        return self._running + len(self._tickets)

    def __enter__(self) -> None:
        ticket = self._enter_or_queue()
        if ticket is not None and not ticket.acquire(timeout=self.patience):
            self._give_up(ticket)
        self._own.started = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self._own.started
        with self._lock:
            self.given += 1
            self._average += SMOOTHING * (seconds - self._average)
            if self._tickets:
                self._tickets.popleft().release()  # the lane passes to who waits longest
            else:
                self._running -= 1

    def _enter_or_queue(self) -> "threading.Lock | None":
        """None if a lane was free, else a lock that is released when the turn has come."""
        with self._lock:
            if self._running < self.lanes:
                self._running += 1
                return None
            expected = self._expected_wait()
            if len(self._tickets) >= self.limit or expected > self.patience:
                raise OverloadedError(max(1, math.ceil(expected)))
            ticket = threading.Lock()
            ticket.acquire()
            self._tickets.append(ticket)
            return ticket

    def _give_up(self, ticket: threading.Lock) -> None:
        """Leave the queue, unless the turn came at this very moment. Raises OverloadedError."""
        with self._lock:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                raise OverloadedError(max(1, math.ceil(self._expected_wait())))

    def _expected_wait(self) -> float:
        """Seconds until who comes now has its turn, as far as the past tells."""
        return self._average * (len(self._tickets) + 1) / self.lanes
