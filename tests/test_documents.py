"""The documents' links lead somewhere, the proofs that they name are there, and the site holds."""

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from opt_ml import ROOT

from docs import architecture, imports, site
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
    assert imports.PICTURE.read_text() == imports.picture(imports.counted()), "run make docs"


class _Page(HTMLParser):
    """What a page of the site names: where links lead, what is loaded, what can be led to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe") and "src" in given:
            self.loaded.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical", reason="the site's builder needs Python 3.11")
    directory = tmp_path_factory.mktemp("site") / "site"
    site.build(directory)
    return directory


def test_the_site_has_every_page_in_its_menu_and_in_its_search(built: Path) -> None:
    import tomllib

    menu = tomllib.loads((site.DOCUMENTS / "zensical.toml").read_text())["project"]["nav"]
    named = [name for entry in menu for name in entry.values()]
    assert sorted(named) == sorted(site.pages().values())
    found = {entry["location"].split("#")[0] for entry in json.loads(search(built))["items"]}
    assert len(found) == len(named)


def search(built: Path) -> str:
    return (built / "search.json").read_text(encoding="utf-8")


def test_the_site_loads_nothing_from_elsewhere_and_its_links_hold(built: Path) -> None:
    pages = {path: _Page(path) for path in built.rglob("index.html")}
    assert len(pages) == len(site.pages())
    for path, page in pages.items():
        for target in page.loaded:
            assert not re.match(r"\w+:|//", target), f"{path} loads {target}"
            assert (path.parent / unquote(target.split("?")[0])).exists(), f"{path}: {target}"
        for target in page.links:
            if re.match(r"\w+:|//", target):
                continue
            name, _, anchor = target.partition("#")
            to = (path.parent / name / ("index.html" if name.endswith("/") else "")).resolve()
            to = path if not name else to / "index.html" if to.is_dir() else to
            assert to.exists(), f"{path}: {target}"
            if anchor and to in pages:
                assert unquote(anchor) in pages[to].names, f"{path}: {target}"
