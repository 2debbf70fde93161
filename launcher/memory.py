"""What is remembered of a directory: the last names and choices, in `.kennel/state.json`."""

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

    def choose(self, **choices: Any) -> None:
        """Remember settings."""
        self._merge("choices", choices)

    def name(self, backend: str, kind: str) -> str | None:
        """The last name of a kind (`training-job`, `endpoint` …) made on a backend."""
        found = records.read(self.path).get("names", {}).get(backend, {}).get(kind)
        return str(found) if found else None

    def remember(self, backend: str, **names: str | None) -> None:
        """Keep the newest name of each kind; None forgets it."""
        state = records.read(self.path)
        known = state.setdefault("names", {}).setdefault(backend, {})
        for kind, name in names.items():
            known[kind.replace("_", "-")] = name
        records.write(self.path, state)

    def _merge(self, section: str, values: dict[str, Any]) -> None:
        state = records.read(self.path)
        state[section] = {**state.get(section, {}), **values}
        records.write(self.path, state)
