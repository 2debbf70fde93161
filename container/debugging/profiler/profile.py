"""What was measured of a training's speed, read back: samples of the machine, phases of steps."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from container.atomic import write_atomically
from container.debugging.clock import Clock
from container.debugging.records import Array

STEPS_FILE = "steps.json"
OPERATORS_FILE = "operators.json"


@dataclass
class Profile:
    """All of it; whatever was not measured is empty."""

    times: dict[tuple[str, str], Array] = field(default_factory=dict)
    """By dimension and name: when each sample was taken, since 1970."""
    values: dict[tuple[str, str], Array] = field(default_factory=dict)
    """By dimension and name: the samples."""
    phases: Mapping[str, Array] = field(default_factory=dict)
    """Seconds of each phase of each measured step."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each phase in all."""
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
    def step_seconds(self) -> Array:
        """How long each measured step took, all its phases together."""
        rows: Array = np.array(list(self.phases.values()), dtype=np.float64)
        return np.asarray(rows.sum(axis=0)) if len(rows) else np.zeros(0)


def write_steps(clock: Clock, directory: Path, *, started: float, workers: int, cores: int) -> None:
    """Keep what the clock measured."""
    content = {
        "format": "kennel-steps/1",
        "starts": list(clock.starts),
        "phases": {name: [round(v, 6) for v in values] for name, values in clock.steps.items()},
        "totals": clock.totals(),
        "first_step_after": clock.starts[0] - started if clock.starts else None,
        "workers": workers,
        "cores": cores,
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / STEPS_FILE, json.dumps(content).encode())


def read(directory: Path) -> Profile:
    """A profile of Kennel's, or of SageMaker's own agent."""
    profile = Profile()
    gathered: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for path in sorted(directory.glob("system/**/*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                key = (str(entry["Dimension"] or entry["Type"]), str(entry["Name"]))
                gathered[key].append((float(entry["Timestamp"]), float(entry["Value"])))
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a killed writer
    for key, pairs in gathered.items():
        ordered: Array = np.array(sorted(pairs))
        profile.times[key], profile.values[key] = ordered[:, 0], ordered[:, 1]
    steps = _read_json(directory / STEPS_FILE)
    if isinstance(steps, dict):
        profile.phases = {name: np.array(values) for name, values in steps["phases"].items()}
        profile.totals = steps["totals"]
        profile.first_step_after = steps["first_step_after"]
        profile.workers, profile.cores = steps["workers"], steps["cores"]
    profile.operators = _read_json(directory / OPERATORS_FILE) or ()
    return profile


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
