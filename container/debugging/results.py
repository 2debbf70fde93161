"""What became of the rules: one JSON object a line, and a line in the log for each that fires."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from container.atomic import write_atomically
from container.progress import say


@dataclass(frozen=True)
class Result:
    """What became of one rule."""

    rule: str
    status: str
    """`NoIssuesFound`, `IssuesFound` or `Error`, as SageMaker's API has them."""
    step: int | None
    """None where nothing was found, or where it is not a step that shows it."""
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def fired(self) -> bool:
        """Whether the illness is there."""
        return self.status == "IssuesFound"


def announce(rule: Any, result: Result) -> None:
    """Say in the log what fired, why, and what to try."""
    evidence = ", ".join(f"{name} {value}" for name, value in result.evidence.items())
    say(f"Rule {rule.name} {when(result)}: {rule.illness} ({evidence}) What to try: {rule.advice}")


def when(result: Result) -> str:
    """That a rule fired, and at which step if at one."""
    return "fired" if result.step is None else f"fired at step {result.step}"


def write_results(path: Path, results: Sequence[Result]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(as_json(result) + "\n" for result in results).encode())


def read_results(path: Path) -> list[Result]:
    """What `write_results` wrote; nothing where it did not."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Result(**json.loads(line)) for line in lines]


def as_json(result: Result) -> str:
    """A result on one line, whatever numbers its evidence holds."""
    content = asdict(result)
    content["evidence"] = {name: _plain(value) for name, value in result.evidence.items()}
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    """JSON has no infinity and no NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
