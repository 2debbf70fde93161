"""Write docs/licences.md, the licence of every package in the images: `python -m docs.licences`."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from docs.sections import main
from requirements.sbom import licence_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/licences.md"
LOCKS = ("image.txt", "debugging.txt")
"""All that is in the images; cpu.txt is a part of it."""
IMAGE = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux"}

UNDECLARED = {
    "cuda-toolkit": "NVIDIA Proprietary Software",  # a list of NVIDIA's packages, with no files
    "pyinstrument-cext": "BSD License",  # in its repository
}
"""Licences of packages whose metadata names none, read where the package comes from."""


def packages() -> Iterator[Distribution]:
    """What the locks put into the image for CUDA, as installed here."""
    for lock in LOCKS:
        text = (ROOT / "requirements" / lock).read_text()
        for line in re.findall(r"^(\w[^\\#\n]*==[^\\\n]*?)\s*\\?$", text, re.MULTILINE):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(IMAGE):
                yield distribution(requirement.name)


def name_of(package: Distribution) -> str:
    """A package's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", package.name).lower()


def licences() -> dict[str, set[str]]:
    """The names of the packages under each licence."""
    found = defaultdict(set)
    for package in packages():
        name = name_of(package)
        found[UNDECLARED.get(name) or licence_of(package)].add(f"{name} {package.version}")
    return dict(found)


def table() -> str:
    """Licences, by how many packages have them."""
    rows = ["| licence | packages |", "|---|---|"]
    for licence, names in sorted(licences().items(), key=lambda item: (-len(item[1]), item[0])):
        rows.append(f"| {licence} | {', '.join(sorted(names))} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main(PAGE, {"licences": table}, sys.argv[1:])
