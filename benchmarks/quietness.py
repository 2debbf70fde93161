"""Whether a measurement had the machine to itself."""

import contextlib
import ctypes
import os
import time
from pathlib import Path

ALLOWED = 0.12
"""Processors that others may take before a measurement is worth repeating."""


PR_SET_CHILD_SUBREAPER = 36
"""Linux's prctl: processes whose parent has ended become ours, and so does their time."""


class Quietness:
    """The processor time that others took from its creation on, as a sentence.

    Measured programs may leave their parent, as local jobs do: such processes count as its own too.
    """

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
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
    """Seconds that this process and all that it has started have worked.

    To be asked while nothing that it waits for runs: it takes in processes that have ended.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    times = os.times()
    ended = times.user + times.system + times.children_user + times.children_system
    running = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return ended + sum(_seconds(pid) for pid in running)


def _seconds(pid: str) -> float:
    """What a running process and those that it has waited for have worked."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
