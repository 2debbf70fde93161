"""Write the file map of docs/architecture.md: `python -m docs.architecture [--check]`."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from docs.sections import Sections, main

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).with_name("architecture.md")
PACKAGES = ("container", "launcher")
DOORS = ("train", "serve", "launch.py")


def rooms() -> dict[str, list[Path]]:
    """Every room, a folder of Python files, by its path; doors are rooms of their own."""
    found = {name: [ROOT / name] for name in DOORS}
    for package in PACKAGES:
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            found[str(folder.relative_to(ROOT))] = sorted(folder.glob("*.py"))
    return found


def file_map() -> str:
    """Every file with the first sentence of its docstring, by room."""
    parts = []
    for room, files in rooms().items():
        if room in DOORS:
            continue
        parts += [f"### {room}", "", first_sentence(ROOT / room / "__init__.py") + ".", ""]
        parts += [
            f"- `{file.name}`: {first_sentence(file)}"
            for file in files
            if file.name != "__init__.py" and first_sentence(file)
        ]
        parts.append("")
    return "\n".join(parts)


def first_sentence(path: Path) -> str:
    """What a file's docstring says first, without the full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\. ", paragraph)[0].rstrip(".")


def imported_modules(file: Path) -> Iterator[str]:
    """The modules that a file imports names from."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from container import model` names the module last.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """The room, as the picture shows it, that a module lies in; empty for other packages."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return ""
    return "/".join(parts[:2]) if (ROOT / Path(*parts[:2])).is_dir() else parts[0]


SECTIONS: Sections = {"files": file_map}

if __name__ == "__main__":
    main(PAGE, SECTIONS, sys.argv[1:])
