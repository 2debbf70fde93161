"""`steps.jsonl`: what the clock measured of each step, written while training runs.

A line with an object begins each part of a training, which has more than one after a resume; then
come a line for each measured step (its number, start, learning rate and seconds of each phase) and,
now and then, one with the totals so far.
"""

import json
import time
from array import array
from pathlib import Path
from typing import Any

from container.debugging.clock import STEP_PHASES, Clock

STEPS_FILE = "steps.jsonl"
PAUSE = 10.0
"""Seconds between two times that steps are written."""


class StepLog:
    """Appends to the file; raises OSError where the disk is full."""

    def __init__(
        self, directory: Path, clock: Clock, *, trained: int, started: float, **facts: Any
    ) -> None:
        """`trained` steps were done before a resume; those written later than them are dropped."""
        self._path = directory / STEPS_FILE
        self._clock = clock
        self._trained = trained
        self._written = 0
        self._due = 0.0
        directory.mkdir(parents=True, exist_ok=True)
        kept = _before(self._path, trained) if trained else ""
        head = {"format": "kennel-steps/2", "started": started, "phases": STEP_PHASES, **facts}
        self._path.write_text(kept + json.dumps(head) + "\n", encoding="utf-8")

    def write(self, rates: "array[float]", *, now: bool = False) -> None:
        """Write what is new: at once, or when some seconds have passed. A rate for each step."""
        if not now and time.monotonic() < self._due:
            return
        self._due = time.monotonic() + PAUSE
        clock = self._clock
        totals = {"totals": clock.totals()}
        lines = []
        for index in range(self._written, len(clock.starts)):
            number = clock.numbers[index]
            phases = (round(clock.steps[phase][index], 6) for phase in STEP_PHASES)
            row = [self._trained + number, clock.starts[index], rates[number], *phases]
            lines.append(json.dumps(row))
        self._written = len(clock.starts)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n".join([*lines, json.dumps(totals)]) + "\n")


def _before(path: Path, step: int) -> str:
    """The lines of an earlier part, without the steps that are done again."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return ""
    kept = []
    for line in lines:
        if line.startswith("[") and int(line[1:].partition(",")[0]) >= step:
            continue
        if line.endswith("\n"):
            kept.append(line)
    return "".join(kept)
