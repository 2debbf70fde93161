"""`output/data/metrics.jsonl`: what training measured, one JSON object a line."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from container.metrics import Metric


class History:
    """The metrics of each epoch, and after the last those of the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, float]] = []

    @property
    def latest(self) -> dict[str, float]:
        """The newest value of every metric."""
        merged: dict[str, float] = {}
        for entry in self.entries:
            merged |= entry
        return _finite(merged)

    def resume(self, entries: list[dict[str, float]]) -> None:
        """Start the file anew with what was measured before a checkpoint."""
        self.entries = list(entries)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(map(_line, entries)))

    def add(self, values: Mapping[Metric, float], **numbers: int) -> None:
        """Append one line to the file; numbers such as `epoch` say what was measured."""
        entry = numbers | {metric.name: value for metric, value in values.items()}
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(_line(entry))


def _line(entry: Mapping[str, float]) -> str:
    return json.dumps(_finite(entry)) + "\n"


def _finite(entry: Mapping[str, float]) -> dict[str, float]:
    """What JSON has numbers for: neither infinity nor NaN, as a training that diverges has."""
    return {name: value for name, value in entry.items() if math.isfinite(value)}
