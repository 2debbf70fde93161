"""Build the documents as a site with a search: `python -m docs.site [DIRECTORY]`.

The pages are written for GitHub. On their way into the site, links to code become plain text, since
the site holds none, and the words after a code block's language go, which only tests read.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ROOT / "docs"
HOME = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages from outside docs/, and what the site calls them."""
MARK = ".made-by-docs-site"
"""A file in what was built, which may be replaced."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]+)?\)")


def pages() -> dict[Path, str]:
    """Every page, and its name in the site."""
    inside = {path: path.name for path in sorted(DOCUMENTS.glob("*.md"))}
    return {ROOT / name: title for name, title in HOME.items()} | inside


def page(path: Path) -> str:
    """One page as the site has it."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```(\w+) [^`\n]+$", r"```\1", text, flags=re.MULTILINE)
    text = re.sub(r"^<!-- .+ -->$", "", text, flags=re.MULTILINE)
    return _LINK.sub(lambda link: _relinked(link, path.parent), text)


def _relinked(link: "re.Match[str]", folder: Path) -> str:
    picture, words, target, anchor = link.groups()
    resolved = (folder / target).resolve()
    if resolved in pages():
        return f"[{words}]({pages()[resolved]}{anchor or ''})"
    if resolved.is_relative_to(DOCUMENTS / "pictures"):
        return f"{picture}[{words}]({resolved.relative_to(DOCUMENTS)})"
    return words


def build(directory: Path) -> None:
    """Replace a directory by the site; a warning ends it, and its text is on standard error."""
    own = not directory.exists() or (directory / MARK).exists()
    if not own and (directory.is_file() or any(directory.iterdir())):
        sys.exit(
            f"error: {directory} holds something else than this site; remove it, or name another."
        )
    with tempfile.TemporaryDirectory(prefix="kennel-site-") as scratch:
        source = Path(scratch) / "docs"
        shutil.copytree(DOCUMENTS / "pictures", source / "pictures")
        for path, name in pages().items():
            (source / name).write_text(page(path), encoding="utf-8")
        shutil.copy(DOCUMENTS / "zensical.toml", scratch)
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        subprocess.run(command, cwd=scratch, check=True)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(Path(scratch) / "site", directory)
        (directory / MARK).touch()


if __name__ == "__main__":
    build(Path(sys.argv[1] if sys.argv[1:] else "site"))
