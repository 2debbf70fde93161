"""The documents' links lead somewhere, and the proofs that they name are there."""

import ast
import re
from pathlib import Path

import pytest
from opt_ml import ROOT

from docs import architecture, imports, scale
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


def test_the_scale_page_says_what_the_model_says() -> None:
    text = scale.PAGE.read_text(encoding="utf-8")
    assert fill(text, scale.SECTIONS) == text, "run make docs"


def test_the_picture_and_the_file_map_are_those_of_the_code() -> None:
    text = architecture.PAGE.read_text(encoding="utf-8")
    assert fill(text, architecture.SECTIONS) == text, "run make docs"
    assert imports.PICTURE.read_text() == imports.picture(imports.arrows()), "run make docs"


def test_every_picture_is_shown_somewhere() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (ROOT / "docs/pictures").iterdir():
        assert f"pictures/{picture.name})" in text, picture.name


def test_every_command_of_a_page_is_run_by_a_test_or_named_after_what_it_needs() -> None:
    run = {"README.md", "dog-breeds.md"}
    for page in PAGES:
        commands = re.findall(r"^```sh(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert page.name in run or all(commands), page.name
