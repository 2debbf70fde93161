"""The memory of a process and of all that it starts, sampled while it runs."""

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL = 0.1
"""Seconds between two samples."""


@dataclass(frozen=True)
class Memory:
    """Bytes of several processes; what they share counts once."""

    own: int = 0
    """What the processes wrote: nobody else can have it."""
    files: int = 0
    """Pages of mapped files, which the kernel takes back when it needs them."""

    @property
    def total(self) -> int:
        """Both, the proportional set size."""
        return self.own + self.files


class PeakMemory:
    """The highest samples of a process's tree, between `with` and its end."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.own = 0
        self.total = 0

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            samples = [_memory(process.pid) for process in tree]
            self.own = max(self.own, sum(sample.own for sample in samples))
            self.total = max(self.total, sum(sample.total for sample in samples))


def _memory(process: int) -> Memory:
    """Of one process; nothing, if it has just ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return Memory()
    kilobytes = {
        fields[0].rstrip(":"): int(fields[1])
        for fields in map(str.split, text.splitlines()[1:])
        if len(fields) >= 2
    }
    own = kilobytes.get("Pss_Anon", 0) + kilobytes.get("Pss_Shmem", 0)
    return Memory(own * 1024, kilobytes.get("Pss_File", 0) * 1024)
