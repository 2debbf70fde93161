"""Pictures for the report: small inline SVGs, and heat maps as tiny images. No JavaScript."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from container.debugging.records import Array

WIDTH, HEIGHT = 640, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 30, 12, 50
_MOST_POINTS = 400


@dataclass(frozen=True)
class Line:
    """One curve: its colour is the stylesheet's `--series-N`."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: int = 1
    faint: bool = False
    dots: bool = False


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str = "",
    logarithmic: bool = False,
    x_logarithmic: bool = False,
    note: str = "",
) -> str:
    """Curves over a common axis, with a legend. Empty where there is nothing to draw."""
    kept = [clean for line in lines if (clean := _finite(line, logarithmic)).xs]
    if not kept:
        return ""
    xs = [x for line in kept for x in line.xs]
    ys = [y for line in kept for y in line.ys]
    x_axis = _Axis.over(xs, whole=True, logarithmic=x_logarithmic)
    y_axis = _Axis.over(ys, logarithmic=logarithmic)
    drawn = "".join(_grid(x_axis, y_axis, x_label))
    for line in kept:
        points = [
            (_across(x_axis.share(x)), _up(y_axis.share(y))) for x, y in _thinned(line.xs, line.ys)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = "faint" if line.faint else "line"
        drawn += f'<polyline class="{style} s{line.colour}" points="{path}"/>'
        if line.dots or len(points) == 1:
            marks = zip(points, line.xs, line.ys, strict=False)
            drawn += "".join(
                f'<circle class="s{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
                f"<title>{escape(line.name)}: {number(value)} at {number(at)}</title></circle>"
                for (x, y), at, value in marks
            )
    described = "; ".join(
        f"{line.name} from {number(line.ys[0])} to {number(line.ys[-1])}" for line in kept
    )
    legend = "".join(
        f'<span class="key s{line.colour}">{escape(line.name)}</span>' for line in kept
    )
    unit = f'<span class="unit">{escape(y_label)}</span>' if y_label else ""
    return figure(
        title, f'<p class="legend">{unit}{legend}</p>' + svg(drawn, f"{title}: {described}"), note
    )


def bars(
    title: str,
    rows: Sequence[tuple[str, float, str]],
    *,
    most: float | None = None,
    colour: int = 1,
) -> str:
    """Horizontal bars as a table: label, value, and the value as it is written."""
    top = most or max((value for _, value, _ in rows), default=0) or 1
    cells = "".join(
        f'<tr><th scope="row">{breakable(label)}</th><td class="bar">'
        f'<span class="s{colour}" style="width:{100 * min(1, value / top):.1f}%"></span></td>'
        f'<td class="value">{escape(text)}</td></tr>'
        for label, value, text in rows
    )
    return f'<table class="bars"><caption>{escape(title)}</caption>{cells}</table>'


def shares(title: str, parts: Sequence[tuple[str, float]]) -> str:
    """One bar of which each part takes its share."""
    total = sum(value for _, value in parts)
    if total <= 0:
        return ""
    boxes, keys, x = "", "", 0.0
    for index, (name, value) in enumerate(parts, start=1):
        width = WIDTH * value / total
        boxes += (
            f'<rect class="s{index}" x="{x:.1f}" y="0" height="34" '
            f'width="{max(0, width - 1.5):.1f}">'
            f"<title>{escape(name)}: {100 * value / total:.1f} %</title></rect>"
        )
        keys += f'<span class="key s{index}">{escape(name)} {100 * value / total:.1f} %</span>'
        x += width
    described = ", ".join(f"{name} {100 * value / total:.1f} percent" for name, value in parts)
    picture = svg(boxes, f"{title}: {described}", height=34)
    return figure(title, f'{picture}<p class="legend">{keys}</p>')


def heat_map(title: str, values: Array, alt: str, *, low: float, high: float) -> str:
    """A matrix as an image with a pixel for each value, enlarged without smoothing."""
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    pixels = _COLOURS[np.nan_to_num(share * (len(_COLOURS) - 1)).astype(np.int64)]
    pixels[~np.isfinite(values)] = (128, 128, 128)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<img class="heat" alt="{escape(f"{title}. {alt}")}" src="data:image/png;base64,{source}">'
    )


def scale(low: str, high: str) -> str:
    """What a heat map's colours mean."""
    steps = ", ".join("rgb({},{},{})".format(*_COLOURS[i]) for i in range(0, 256, 51))
    return (
        f'<p class="scale"><span>{escape(low)}</span>'
        f'<i style="background:linear-gradient(90deg,{steps})"></i><span>{escape(high)}</span></p>'
    )


def figure(title: str, content: str, note: str = "") -> str:
    """A picture under its heading, with a sentence that says how to read it."""
    below = f'<figcaption class="note">{escape(note)}</figcaption>' if note else ""
    return f"<figure><h3>{escape(title)}</h3>{content}{below}</figure>"


def svg(content: str, alt: str, *, height: int = HEIGHT) -> str:
    """An inline SVG that scales with the page."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(alt)}">{content}</svg>'
    )


def breakable(name: str) -> str:
    """A name that may go on in the next line after an underscore or a hyphen, not within a word."""
    return escape(name).replace("_", "_<wbr>").replace("-", "-<wbr>")


def number(value: float) -> str:
    """A number as a reader wants it: four digits, no noise."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool

    @classmethod
    def over(
        cls, values: Sequence[float], *, logarithmic: bool = False, whole: bool = False
    ) -> "_Axis":
        low, high = min(values), max(values)
        if logarithmic:
            first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
            last = max(last, first + 1)
            stride = max(1, -(-(last - first) // 6))
            ticks = tuple(10.0**power for power in range(first, last + 1, stride))
            return cls(float(first), float(last), ticks, True)
        if not whole:
            low = min(0.0, low) if low < 0.6 * high else low
        if high - low < 1e-12:
            low, high = low - max(0.5, abs(low) * 0.05), high + max(0.5, abs(high) * 0.05)
        step = _nice((high - low) / 5)
        if whole and all(value == int(value) for value in values):
            step = max(step, 1.0)
        if not whole:
            low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        return cls(low, high, tuple(step * index for index in range(first, last + 1)), False)

    def share(self, value: float) -> float:
        place = math.log10(value) if self.logarithmic else value
        return (place - self.low) / (self.high - self.low)


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= step * 0.999)


def _grid(x_axis: _Axis, y_axis: _Axis, x_label: str) -> list[str]:
    drawn = []
    for tick in y_axis.ticks:
        y = _up(y_axis.share(tick))
        drawn.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        drawn.append(f'<text class="tick end" x="{_LEFT - 7}" y="{y + 4:.1f}">{_tick(tick)}</text>')
    for tick in x_axis.ticks:
        x = _across(x_axis.share(tick))
        drawn.append(f'<text class="tick mid" x="{x:.1f}" y="{HEIGHT - 30}">{_tick(tick)}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    drawn.append(f'<text class="tick mid" x="{middle}" y="{HEIGHT - 7}">{escape(x_label)}</text>')
    return drawn


def _tick(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}"


def _across(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _up(share: float) -> float:
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _finite(line: Line, logarithmic: bool) -> Line:
    kept = [
        (x, y)
        for x, y in zip(line.xs, line.ys, strict=True)
        if math.isfinite(y) and (y > 0 or not logarithmic)
    ]
    return Line(
        line.name, [x for x, _ in kept], [y for _, y in kept], line.colour, line.faint, line.dots
    )


def _thinned(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    if len(xs) <= _MOST_POINTS:
        return list(zip(xs, ys, strict=True))
    groups = np.array_split(np.arange(len(xs)), _MOST_POINTS)
    across, up = np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)
    return [(float(across[group].mean()), float(up[group].mean())) for group in groups]


def _colours() -> Array:
    """From deep violet over blue and green to yellow, even to the eye, in print and in grey."""
    stops = np.array(
        [(68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37)]
    )
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(np.linspace(0, 1, 256), places, stops[:, index]) for index in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


_COLOURS = _colours()
