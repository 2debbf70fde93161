"""The picture of who imports whom, drawn from the code: `python -m docs.imports [--check]`."""

import math
import sys
from collections.abc import Collection
from pathlib import Path

from docs.architecture import ROOT, imported_modules, room_of, rooms

PICTURE = Path(__file__).with_name("pictures") / "architecture.svg"

_PLACES: dict[str, tuple[float, float]] = {
    "train": (200, 40),
    "serve": (365, 40),
    "launch.py": (740, 40),
    "container/training": (110, 160),
    "container/debugging": (95, 290),
    "container/serving": (460, 160),
    "container": (330, 420),
    "launcher": (740, 160),
    "launcher/commands": (640, 290),
    "launcher/local": (875, 290),
}
"""Where the middle of each room stands."""
_WIDTH, _HEIGHT, _HALF_BOX = 980, 460, 17
_STYLE = """\
text { font: 14px system-ui, sans-serif; fill: #222; text-anchor: middle; }
rect { fill: #eef2ff; stroke: #5567c9; } .launcher rect { fill: #fdf3e4; stroke: #b9762a; }
.door rect { fill: #fff; stroke: #888; } svg { background: #fff; }
path { stroke: #888; fill: none; } marker path { fill: #888; stroke: none; }"""


def arrows() -> set[tuple[str, str]]:
    """From which room to which other an import leads; rooms two levels deep."""
    found: set[tuple[str, str]] = set()
    for room, files in rooms().items():
        shown = "/".join(room.split("/")[:2])
        for file in files:
            targets = map(room_of, imported_modules(file))
            found.update((shown, target) for target in targets if target and target != shown)
    return found


def picture(pairs: Collection[tuple[str, str]]) -> str:
    """The rooms as boxes, and an arrow where one imports from another, as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<title>Who imports whom</title>",
        f"<style>\n{_STYLE}\n</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" style="fill:#fff;stroke:none"/>',
        *(_arrow(*pair) for pair in sorted(pairs)),
        *(_box(name) for name in sorted({name for pair in pairs for name in pair})),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _half_width(name: str) -> float:
    return 14 + 3.9 * len(name)


def _box(name: str) -> str:
    x, y = _PLACES[name]
    half = _half_width(name)
    kind = "door" if (ROOT / name).is_file() else name.split("/", maxsplit=1)[0]
    return (
        f'<g class="{kind}"><rect x="{x - half:.0f}" y="{y - _HALF_BOX}" width="{2 * half:.0f}" '
        f'height="{2 * _HALF_BOX}" rx="6"/><text x="{x}" y="{y + 5}">{name}</text></g>'
    )


def _arrow(source: str, target: str) -> str:
    """From edge to edge, a little beside the straight line, so that two ways do not meet."""
    (x0, y0), (x1, y1) = _PLACES[source], _PLACES[target]
    length = math.hypot(x1 - x0, y1 - y0)
    across, along = (x1 - x0) / length, (y1 - y0) / length
    aside_x, aside_y = -along * 7, across * 7
    start, end = _reach(source, across, along), _reach(target, across, along) + 2
    x0, y0 = x0 + across * start + aside_x, y0 + along * start + aside_y
    x1, y1 = x1 - across * end + aside_x, y1 - along * end + aside_y
    return f'<path d="M{x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}" marker-end="url(#head)"/>'


def _reach(name: str, across: float, along: float) -> float:
    """How far it is from a box's middle to its edge in this direction."""
    wide = _half_width(name) / abs(across) if across else math.inf
    high = _HALF_BOX / abs(along) if along else math.inf
    return min(wide, high)


def main(arguments: list[str]) -> None:
    """Write the picture, or with `--check` exit with a sentence where it is not up to date."""
    made = picture(arrows())
    if arguments == ["--check"]:
        sys.exit(None if PICTURE.read_text() == made else f"{PICTURE.name} is old: make docs")
    PICTURE.write_text(made)


if __name__ == "__main__":
    main(sys.argv[1:])
