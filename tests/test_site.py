"""The site that `make site` builds: every page, a search, nothing from elsewhere."""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import browser

from docs import site
from examples import demo


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


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for directory in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(SystemExit, match="holds something else than this site"):
            site.build(directory)
        with pytest.raises(SystemExit, match="holds something else than a demo"):
            demo.main(directory)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_earlier_site_is_replaced(built: Path) -> None:
    (built / "left-over.html").touch()
    site.build(built)
    assert not (built / "left-over.html").exists()


def search(built: Path) -> str:
    return (built / "search.json").read_text(encoding="utf-8")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(built: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=built)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_reader_finds_a_rule_on_a_phone_and_in_the_dark(address: str, tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        tab.size(390, 844, dark=True)
        tab.open(address)
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 60")
        tab.run("document.querySelector('.md-search__button').click()")
        tab.until("document.activeElement.shadowRoot !== null")
        for letter in "vanishing":
            for kind in ("keyDown", "keyUp"):
                text = {"text": letter} if kind == "keyDown" else {}
                tab.call("Input.dispatchKeyEvent", type=kind, key=letter, **text)
        found = "document.activeElement.shadowRoot?.querySelector('ol, ul')?.innerText"
        tab.until(f"({found} || '').includes('VanishingGradient')")
        assert tab.complaints() == []
        assert [a for a in tab.requested() if not a.startswith((address, "data:", "blob:"))] == []


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
