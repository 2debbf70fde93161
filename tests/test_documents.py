"""The documents' links lead somewhere, and the proofs that they name are there."""

import ast
import re
from pathlib import Path

import pytest
from opt_ml import ROOT

from docs import architecture
from docs.sections import fill

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}#{anchor}"


def test_every_test_that_the_pitfalls_name_is_there() -> None:
    functions = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    rows = re.findall(r"^\| \*\*.+$", (ROOT / "docs/pitfalls.md").read_text(), re.MULTILINE)
    assert len(rows) == 24
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= functions, row


def test_the_picture_and_the_file_map_are_those_of_the_code() -> None:
    text = architecture.PAGE.read_text(encoding="utf-8")
    assert fill(text, architecture.SECTIONS) == text, "run make docs"
