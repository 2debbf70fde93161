"""Write the parts of the README that the code knows best: `python -m docs.readme [--check]`."""

import re
import sys
from pathlib import Path

from docs import benchmarks
from docs.architecture import DOORS, PACKAGES, ROOT, first_sentence
from docs.sections import Sections, main

PAGE = ROOT / "README.md"
FEATURES = (
    "trains from a folder of images, no code",
    "networks",
    "several labels for an image",
    "several machines",
    "tuning, with no account",
    "rules that watch the training",
    "HTTP on a laptop, without an account",
    "many models in one process",
    "explanations of an answer",
    "gRPC",
    "CPU engine without torch",
    "loads without running code of the artifact",
    "frameworks other than torch",
    "tasks other than classification",
    "run in production by others",
)
"""Rows of docs/comparison.md, those where Kennel lacks something among them."""
_NOTE = re.compile(r" \[\d+\]")


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


def few_features() -> str:
    """The comparison's table in short: some of its rows, without its notes."""
    page = (ROOT / "docs/comparison.md").read_text()
    head, line, *rows = [row for row in page.splitlines() if row.startswith("|")]
    named = {row.split("|")[1].strip(): row for row in rows}
    return "\n".join([head, line, *(_NOTE.sub("", named[feature]) for feature in FEATURES)])


SECTIONS: Sections = {
    "speed": benchmarks.few_rows,
    "features": few_features,
    "files": file_map,
}

if __name__ == "__main__":
    main(PAGE, SECTIONS, sys.argv[1:])
