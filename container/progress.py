"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30.0

_silent = threading.Event()


def silence() -> None:
    """Print nothing from here on: of several processes at one work the first speaks for all."""
    _silent.set()


def say(text: str) -> None:
    """Print one line to the log, at once."""
    if _silent.is_set():
        return
    # Names of files, which may be in it, need not be UTF-8.
    tqdm.write(text.encode(errors="backslashreplace").decode(), file=sys.stdout)
    sys.stdout.flush()


def track(items: Iterable[Item], *, total: int, description: str) -> Iterator[Item]:
    """Yield the items, and show how many of `total` are done."""
    if sys.stderr.isatty() and not _silent.is_set():
        yield from tqdm(items, total=total, desc=description, leave=False, dynamic_ncols=True)
        return
    due = time.monotonic() + SECONDS_BETWEEN_LINES
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() >= due:
            say(f"{description}: {done} of {total}")
            due = time.monotonic() + SECONDS_BETWEEN_LINES
