"""The generated parts of a document, between a comment that names them and one that ends them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Sections = Mapping[str, Callable[[], str]]
"""What makes each section's text, by the name that its comments give it."""


def fill(text: str, sections: Sections) -> str:
    """The document with every generated section made anew."""
    for name, make in sections.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = text.split(start)
        text = f"{before}{start}\n{make()}\n{end}{rest.split(end)[1]}"
    return text


def main(page: Path, sections: Sections, arguments: Sequence[str]) -> None:
    """Write the page, or with `--check` exit with a sentence where it is not up to date."""
    current = page.read_text()
    filled = fill(current, sections)
    if list(arguments) == ["--check"]:
        sys.exit(f"{page.name} is not up to date: make docs" if current != filled else 0)
    page.write_text(filled)
