"""Write the parts of the README that the code knows best: `python -m docs.generate [--check]`."""

import sys
from collections.abc import Iterable
from pathlib import Path

from container import hyperparameters
from container.hyperparameters import TuningRange
from container.serving import settings
from docs.architecture import DOORS, PACKAGES, first_sentence
from docs.sections import Sections, fill, main

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def hyperparameter_table() -> str:
    """Every hyperparameter with its default, bounds, tuning range and meaning."""
    rows = [
        (
            f"`{declared.name}`",
            f"`{declared.default}`",
            declared.check.describe(),
            _tuning_range(declared.tune),
            declared.meaning,
        )
        for declared in hyperparameters.declarations()
    ]
    return _table(("name", "default", "allowed", "tuned over", "meaning"), rows)


def variable_table() -> str:
    """Every environment variable that `serve` reads."""
    rows = [
        (
            f"`{variable.name}`",
            f"`{variable.default}`" if variable.default else "",
            variable.check.describe() if variable.check else "a directory",
            variable.meaning,
        )
        for variable in settings.variables()
    ]
    return _table(("name", "default", "allowed", "meaning"), rows)


def file_map() -> str:
    """Doors and folders; each file stands in docs/architecture.md."""
    paths = [ROOT / name for name in DOORS]
    for package in PACKAGES:
        rooms = sorted(path.parent for path in (ROOT / package).glob("*/__init__.py"))
        paths += [ROOT / package, *rooms]
    return "```\n" + "\n".join(map(_map_line, paths)) + "\n```"


def _map_line(path: Path) -> str:
    name = str(path.relative_to(ROOT)) + ("/" if path.is_dir() else "")
    return f"{name:<24} {first_sentence(path / '__init__.py' if path.is_dir() else path)}"


def benchmark_tables() -> str:
    """What `make bench` measured last."""
    return (ROOT / "benchmarks/results.md").read_text().rstrip()


SECTIONS: Sections = {
    "hyperparameters": hyperparameter_table,
    "variables": variable_table,
    "benchmarks": benchmark_tables,
    "files": file_map,
}


def generate(text: str) -> str:
    """The README with every generated section made anew."""
    return fill(text, SECTIONS)


def _tuning_range(tune: hyperparameters.Tuning) -> str:
    if isinstance(tune, TuningRange):
        return f"{tune.low:g} to {tune.high:g}, {tune.scaling.lower()}"
    return ", ".join(map(str, tune)) if tune else ""


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(header), *(tuple(row) for row in rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


if __name__ == "__main__":
    main(README, SECTIONS, sys.argv[1:])
