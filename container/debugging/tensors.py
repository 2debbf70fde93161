"""What an smdebug directory holds: every tensor's values over the steps, raw or as reductions.

Reads any such directory, of Kennel, of SageMaker or of the user's own script, while it grows too.
Files that cannot be read are left out. Raw tensors are read when asked for and not kept.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from container.debugging.records import Array, DamagedError, read_records

TRAIN, EVAL, GLOBAL = "TRAIN", "EVAL", "GLOBAL"

HOOK_OFF_FILE = "hook_off.ts"
"""Beside the tensors from when Kennel's hook has switched itself off, until the next training."""

_PREFIX = "smdebug/reductions/"
_KEPT_BYTES = 4096
"""Tensors up to this size stay in memory: reductions, losses, labels."""

MEASURES: dict[str, Callable[[Array], float]] = {
    "min": np.min,
    "max": np.max,
    "mean": np.mean,
    "std": np.std,
    "variance": np.var,
    "sum": np.sum,
    "abs_mean": lambda value: float(np.mean(np.abs(value))),
    "abs_max": lambda value: float(np.max(np.abs(value))),
    "abs_min": lambda value: float(np.min(np.abs(value))),
    "l1_norm": lambda value: float(np.sum(np.abs(value))),
    "l2_norm": lambda value: float(np.sqrt(np.sum(np.square(value, dtype=np.float64)))),
    "zeros": lambda value: float(np.mean(value == 0)),
    "nonfinite": lambda value: float(np.mean(~np.isfinite(value))),
    "nan": lambda value: float(np.mean(np.isnan(value))),
    "spread": lambda value: float(np.subtract(*np.percentile(value, (95, 5)))),
}
"""Numbers that describe a tensor. The first names are smdebug's for its reductions."""

DEFAULT_COLLECTIONS = {
    "losses": r"[Ll]oss_(?!input).*output",
    "gradients": r"^gradient/",
    "weights": r"^(?!gradient).*weight",
    "biases": r"^(?!gradient).*bias",
}
"""smdebug's own; a directory's `collections` folder names the others."""


@dataclass(frozen=True)
class Point:
    """A number at a step."""

    step: int
    value: float


class Tensors:
    """The tensors of one directory. Call `refresh` to see what was written since."""

    def __init__(self, directory: Path, since: float = 0.0) -> None:
        """A pause after a tensor from before `since` was between two runs, and is not counted."""
        self.directory = directory
        self.since = since
        self.last_seconds: float | None = None
        """When the newest tensor was saved, since 1970."""
        self.pauses: list[tuple[int, float]] = []
        """The global step after each pause, and how many seconds the pause was long."""
        self.damaged: list[str] = []
        """Files that cannot be read."""
        self._read: set[Path] = set()
        self._files: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
        self._small: dict[tuple[str, str, int], Array] = {}
        self._measured: dict[tuple[str, str, str, int], float | None] = {}
        self._steps: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.refresh()

    @property
    def ended(self) -> bool:
        """Whether the training that wrote the tensors is over."""
        return (self.directory / "training_job_end.ts").exists()

    @property
    def hook_off(self) -> bool:
        """Whether no more tensors come though training goes on."""
        return (self.directory / HOOK_OFF_FILE).exists()

    def refresh(self) -> bool:
        """Take in new files, and say whether there were any."""
        new = sorted(set(self.directory.glob("index/*/*.json")) - self._read)
        for path in new:
            self._read.add(path)
            try:
                index = json.loads(path.read_text(encoding="utf-8"))
                meta = index["meta"]
                mode, step = str(meta["mode"]).strip(), int(meta["mode_step"])
                if "event_file_name" in meta:
                    self._take_in(self.directory / meta["event_file_name"], mode, step)
            except (OSError, ValueError, KeyError, TypeError, DamagedError) as error:
                self.damaged.append(f"{path.name}: {type(error).__name__}: {error}")
        return bool(new)

    def _take_in(self, path: Path, mode: str, step: int) -> None:
        for record in read_records(path.read_bytes()):
            self._files[record.name, mode][step] = path
            self._steps[_plain(record.name), mode].add(step)
            if record.value.nbytes <= _KEPT_BYTES:
                self._small[record.name, mode, step] = record.value
        seconds = path.stat().st_mtime if not record.seconds else record.seconds
        if self.last_seconds is not None and self.since <= self.last_seconds < seconds:
            self.pauses.append((int(path.parent.name), seconds - self.last_seconds))
        self.last_seconds = max(seconds, self.last_seconds or seconds)

    def names(self, pattern: str, mode: str | None = None) -> list[str]:
        """The tensors whose names the pattern finds, raw or reduced, in order of appearance."""
        search = re.compile(pattern).search
        matching = (
            name for name, its in self._steps if mode in (None, its) and search(name) is not None
        )
        return list(dict.fromkeys(matching))

    def collection(self, name: str, mode: str | None = None) -> list[str]:
        """The tensors of an smdebug collection, by its name."""
        patterns = [DEFAULT_COLLECTIONS[name]] if name in DEFAULT_COLLECTIONS else []
        for path in self.directory.glob("collections/*/*_collections.json"):
            try:
                described = json.loads(path.read_text(encoding="utf-8"))["collections"][name]
                patterns += described["include_regex"] or []
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return self.names("|".join(patterns), mode) if patterns else []

    def steps(self, name: str, mode: str) -> list[int]:
        """The steps at which a tensor was saved in a mode, raw or reduced."""
        return sorted(self._steps.get((name, mode), ()))

    def raw(self, name: str, mode: str, step: int) -> Array | None:
        """A whole tensor, or None where only reductions were saved."""
        small = self._small.get((name, mode, step))
        if small is not None:
            return small
        path = self._files.get((name, mode), {}).get(step)
        if path is None:
            return None
        try:
            return next(r.value for r in read_records(path.read_bytes()) if r.name == name)
        except (OSError, DamagedError, StopIteration):
            return None

    def measure(self, name: str, measure: str, mode: str) -> list[Point]:
        """One of MEASURES at every step that has it: saved as a reduction, or from the tensor."""
        values = ((step, self.at(name, measure, mode, step)) for step in self.steps(name, mode))
        return [Point(step, value) for step, value in values if value is not None]

    def at(self, name: str, measure: str, mode: str, step: int) -> float | None:
        """One of MEASURES at one step."""
        key = (name, measure, mode, step)
        if key not in self._measured:
            self._measured[key] = self._measure(name, measure, mode, step)
        return self._measured[key]

    def _measure(self, name: str, measure: str, mode: str, step: int) -> float | None:
        saved = self._reduced(name, measure, mode, step)
        if saved is not None:
            return saved
        if measure == "variance":
            deviation = self.at(name, "std", mode, step)
            return None if deviation is None else deviation**2
        value = self.raw(name, mode, step)
        if value is None or not value.size:
            return None
        with np.errstate(all="ignore"):
            return float(MEASURES[measure](value.astype(np.float64)))

    def _reduced(self, name: str, measure: str, mode: str, step: int) -> float | None:
        # smdebug drops the ending of `l2_norm`.
        saved = f"{_PREFIX}{measure.removesuffix('_norm')}/{name}"
        value = self._small.get((saved, mode, step))
        return None if value is None else float(value.reshape(-1)[0])

    def saved_measures(self, name: str, mode: str, step: int) -> dict[str, float]:
        """Every reduction that was saved of a tensor at a step."""
        found = {each: self._reduced(name, each, mode, step) for each in MEASURES}
        return {measure: value for measure, value in found.items() if value is not None}

    def mode_of(self, name: str) -> str:
        """The mode in which a tensor was saved; scripts that set none have GLOBAL."""
        return next((mode for mode in (TRAIN, GLOBAL, EVAL) if self.steps(name, mode)), GLOBAL)

    def global_step(self, name: str, mode: str, step: int) -> int:
        """The number of forward passes before a step, of all modes together."""
        return int(self._files[name, mode][step].parent.name)


def _plain(name: str) -> str:
    """The tensor's name: a reduction is saved as `smdebug/reductions/abs_mean/NAME`."""
    return name.removeprefix(_PREFIX).split("/", 1)[1] if name.startswith(_PREFIX) else name
