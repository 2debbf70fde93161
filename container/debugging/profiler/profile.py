"""What was measured of a training's speed, read back: samples of the machine, phases of steps."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from container.debugging.profiler.step_log import STEPS_FILE
from container.debugging.records import Array

OPERATORS_FILE = "operators.json"


@dataclass
class Profile:
    """All of it; whatever was not measured is empty."""

    times: dict[tuple[str, str], Array] = field(default_factory=dict)
    """By dimension and name: when each sample was taken, since 1970."""
    values: dict[tuple[str, str], Array] = field(default_factory=dict)
    """By dimension and name: the samples."""
    numbers: Sequence[int] = ()
    """Which steps were measured."""
    rates: Sequence[float] = ()
    """The learning rate of each of them."""
    phases: Mapping[str, Array] = field(default_factory=dict)
    """Seconds of each phase of each measured step."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each phase in all."""
    started: float | None = None
    """When the job began, since 1970."""
    first_step_after: float | None = None
    """Seconds from the start of the job to its first step."""
    workers: int = 0
    """Threads that prepare images; 0 where images are not prepared at all."""
    cores: int = 0
    operators: Sequence[Mapping[str, Any]] = ()
    """Name, calls and milliseconds of each operator, the most expensive first."""

    def samples(self, dimension: str) -> dict[str, Array]:
        """The samples of one dimension, by the name of the core, the GPU or the counter."""
        return {name: values for (of, name), values in self.values.items() if of == dimension}

    @property
    def last_sample(self) -> float | None:
        """When the newest sample was taken, since 1970."""
        return max((float(times[-1]) for times in self.times.values() if len(times)), default=None)

    @property
    def step_seconds(self) -> Array:
        """How long each measured step took, all its phases together."""
        rows: Array = np.array(list(self.phases.values()), dtype=np.float64)
        return np.asarray(rows.sum(axis=0)) if len(rows) else np.zeros(0)


class ProfileReader:
    """Reads a directory of Kennel's, or of SageMaker's own agent, while it grows."""

    def __init__(self, directory: Path, since: float = 0.0) -> None:
        """Samples from before `since` are of an earlier run of the job, and left out."""
        self._directory = directory
        self._since = since
        self._read: dict[Path, int] = {}
        self._samples: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        self._parts: list[dict[str, Any]] = []
        self._rows: list[list[float]] = []

    def read(self) -> Profile:
        """Everything until now."""
        for path in sorted(self._directory.glob("system/**/*.json")):
            for entry in self._new(path):
                self._take_sample(entry)
        for entry in self._new(self._directory / STEPS_FILE):
            self._take_step(entry)
        profile = Profile(operators=_operators(self._directory / OPERATORS_FILE))
        for key, pairs in self._samples.items():
            ordered: Array = np.array(sorted(pairs))
            profile.times[key], profile.values[key] = ordered[:, 0], ordered[:, 1]
        if self._parts:
            self._add_steps(profile)
        return profile

    def _take_sample(self, entry: Any) -> None:
        try:
            key = (str(entry["Dimension"] or entry["Type"]), str(entry["Name"]))
            pair = (float(entry["Timestamp"]), float(entry["Value"]))
        except (ValueError, KeyError, TypeError):
            return
        if pair[0] >= self._since:
            self._samples[key].append(pair)

    def _take_step(self, entry: Any) -> None:
        if isinstance(entry, list):
            self._rows.append(entry)
        elif isinstance(entry, dict) and "format" in entry:
            self._parts.append(entry)
        elif isinstance(entry, dict) and self._parts:
            self._parts[-1] |= entry

    def _add_steps(self, profile: Profile) -> None:
        part = self._parts[-1]
        profile.started = self._parts[0]["started"]
        profile.workers, profile.cores = part["workers"], part["cores"]
        totals: dict[str, float] = defaultdict(float)
        for each in self._parts:
            for name, seconds in each.get("totals", {}).items():
                totals[name] += seconds
        profile.totals = totals
        if self._rows:
            table: Array = np.array(self._rows, dtype=np.float64)
            profile.numbers, profile.rates = table[:, 0].astype(int).tolist(), table[:, 2].tolist()
            profile.phases = dict(zip(part["phases"], table[:, 3:].T, strict=True))
            profile.first_step_after = float(table[0, 1]) - self._parts[0]["started"]

    def _new(self, path: Path) -> Iterator[Any]:
        """The lines since the last look, but for one that is still being written."""
        try:
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                content = file.read()
        except FileNotFoundError:
            return
        content = content[: content.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(content)
        for line in content.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def read(directory: Path, since: float = 0.0) -> Profile:
    """A whole profile; see ProfileReader."""
    return ProfileReader(directory, since).read()


def _operators(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ()
