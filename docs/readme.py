"""Write the parts of the README that the code knows best: `python -m docs.readme [--check]`."""

import sys
from pathlib import Path

from docs import benchmarks
from docs.architecture import DOORS, PACKAGES, ROOT, first_sentence
from docs.sections import Sections, main

PAGE = ROOT / "README.md"


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


SECTIONS: Sections = {"speed": benchmarks.few_rows, "files": file_map}

if __name__ == "__main__":
    main(PAGE, SECTIONS, sys.argv[1:])
