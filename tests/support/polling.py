"""Waiting for what another thread brings about."""

import threading
import time
from collections.abc import Callable


def until(condition: Callable[..., object]) -> None:
    """Look again and again, for 10 seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in 10 seconds"
        threading.Event().wait(0.001)
