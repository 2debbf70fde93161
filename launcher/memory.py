"""What is remembered of a directory: the last names and choices, in `.kennel/state.json`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import records

STATE_DIRECTORY = ".kennel"


@dataclass
class Memory:
    """One directory's memory; every change is on disk when the call returns."""

    path: Path

    @classmethod
    def of(cls, directory: Path) -> "Memory":
        """The memory of a working directory."""
        return cls(directory / STATE_DIRECTORY / "state.json")

    @property
    def choices(self) -> dict[str, Any]:
        """Settings given as flags earlier, which hold until others are given."""
        return dict(records.read(self.path).get("choices", {}))

    def choose(self, images: Mapping[str, Any] | None = None, **choices: Any) -> None:
        """Remember settings; an image is one backend's, in the place of what was pushed there."""
        with self._changed() as state:
            state["choices"] = {**state.get("choices", {}), **choices}
            for backend, image in (images or {}).items():
                _names(state, backend)["image"] = image

    def name(self, backend: str, kind: str) -> str | None:
        """The last name of a kind (`training-job`, `endpoint` …) made on a backend."""
        found = records.read(self.path).get("names", {}).get(backend, {}).get(kind)
        return str(found) if found else None

    def remember(self, backend: str, **names: str | None) -> None:
        """Keep the newest name of each kind; None forgets it."""
        with self._changed() as state:
            known = _names(state, backend)
            for kind, name in names.items():
                known[kind.replace("_", "-")] = name

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """What is remembered, to be changed; no other command reads or writes it meanwhile."""
        with records.locked(self.path):
            state = records.read(self.path)
            yield state
            records.write(self.path, state)


def _names(state: dict[str, Any], backend: str) -> dict[str, Any]:
    """The names of one backend."""
    known: dict[str, Any] = state.setdefault("names", {}).setdefault(backend, {})
    return known
