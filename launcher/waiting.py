"""Waiting for what takes long, with a deadline."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from container.errors import UserError


@dataclass(frozen=True)
class Patience:
    """How often to look, and how to pass the time in between (tests pass it at once)."""

    seconds: float
    sleep: Callable[[float], None] = time.sleep

    def until(self, deadline_seconds: float, what: str) -> Iterator[float]:
        """Yield the time waited so far, again and again. Raises UserError at the deadline."""
        waited = 0.0
        while waited <= deadline_seconds:
            yield waited
            self.sleep(self.seconds)
            waited += self.seconds
        raise UserError(
            f"{what} took longer than {deadline_seconds:.0f} seconds; it may still be under way, "
            "see `./launch.py status`."
        )
