"""Whether a measurement had the machine to itself."""

import os
import time
from pathlib import Path

ALLOWED = 0.12
"""Processors that others may take before a measurement is worth repeating."""


class Quietness:
    """The processor time that others took from its creation on, as a sentence."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._before = _busy() - _own()

    def __str__(self) -> str:
        others = (_busy() - _own() - self._before) / (time.perf_counter() - self._started)
        if others <= ALLOWED:
            return f"Others took {max(others, 0):.2f} processors meanwhile."
        return f"NOT QUIET: others took {others:.2f} processors meanwhile; measure again."


def _busy() -> float:
    """Seconds that all processors have worked since the machine started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _wait, interrupt, soft = map(int, fields[:7])
    return (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Seconds that this process and the children it has waited for have worked."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
