"""`tuning.html`: all trials, what mattered, parallel coordinates; one file, no scripts."""

import html
from collections.abc import Iterator, Mapping, Sequence
from math import log

from launcher.console import duration
from launcher.importance import as_numbers
from launcher.tuning import Result, Trial

WIDTH, HEIGHT = 960, 340
LEFT, RIGHT, TOP, BOTTOM = 90, 70, 34, 26
LOGARITHMIC = 10.0
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --faint: #8795a1; --line: #d3dce6;
  --ground: #ffffff; --best: #0b6e4f; --bar: #3d7ea6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --faint: #9aa5b1; --line: #3e4c59;
  --ground: #1a2129; --best: #4fd1a5; --bar: #6cb2dc; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p.best { font-size: 1.1rem; } p.best b { color: var(--best); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--faint); font-weight: 600; } td.number, th.number { text-align: right; }
tr.best td { color: var(--best); font-weight: 600; }
div.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .faint { fill: var(--faint); }
.axis { stroke: var(--line); stroke-width: 1.5; } .bar { fill: var(--bar); }
.trial { fill: none; stroke-width: 1.6; opacity: .75; } .trial.best { stroke-width: 3.5;
  opacity: 1; }
"""


def page(result: Result, importances: Mapping[str, float]) -> str:
    """The whole document."""
    names = _names(result)
    best = result.ranked[0]
    sections = [
        f"<h1>Tuning {html.escape(result.name)}</h1>",
        f"<p>{len(result.trials)} trials, {html.escape(result.metric)}, "
        f"{'greatest' if result.direction == 'Maximize' else 'least'} is best.</p>",
        f'<p class="best">Best: <b>{best.objective:.4g}</b> with '
        + html.escape(", ".join(f"{name} {value}" for name, value in best.tuned.items()))
        + f", by {html.escape(best.name)}.</p>",
        "<h2>What mattered</h2>",
        _bars(importances),
        "<h2>Every trial as a line</h2>",
        f'<div class="wide">{_parallel(result, names)}</div>',
        "<h2>Every trial as a row</h2>",
        f'<div class="wide">{_table(result, names)}</div>',
    ]
    title = f"<title>Tuning {html.escape(result.name)}</title>"
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{title}<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def _names(result: Result) -> list[str]:
    return list(dict.fromkeys(name for trial in result.trials for name in trial.tuned))


def _bars(importances: Mapping[str, float]) -> str:
    if not importances:
        return "<p>Too few trials to say.</p>"
    rows = []
    for index, (name, share) in enumerate(importances.items()):
        y = 8 + 26 * index
        length = max(1.0, 560 * share)
        rows.append(
            f'<text x="150" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect class="bar" x="160" y="{y}" width="{length:.1f}" height="18" rx="2"/>'
            f'<text x="{168 + length:.1f}" y="{y + 13}">{share:.0%}</text>'
        )
    height = 16 + 26 * len(rows)
    return (
        f'<svg viewBox="0 0 800 {height}" width="800" role="img" '
        f'aria-label="Importance of each hyperparameter">{"".join(rows)}</svg>'
    )


class _Axis:
    """One column of the picture: where a value lies on it."""

    def __init__(self, name: str, texts: Sequence[str], x: float) -> None:
        self.name = name
        self.x = x
        numbers = as_numbers(list(texts))
        self.numeric = numbers is not None and len(set(numbers)) > 1
        self.words = sorted(set(texts))
        if numbers and self.numeric:
            self.low, self.high = min(numbers), max(numbers)
            self.logarithmic = self.low > 0 and self.high / self.low >= LOGARITHMIC

    def y(self, text: str) -> float:
        """Greater is higher."""
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - self.share(text))

    def share(self, text: str) -> float:
        """From 0 at the foot to 1 at the top."""
        if not self.numeric:
            return (self.words.index(text) + 0.5) / len(self.words)
        value = float(text)
        if self.logarithmic:
            return log(value / self.low) / log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def drawn(self) -> Iterator[str]:
        """The axis, its name, and the values at its ends."""
        foot = HEIGHT - BOTTOM
        yield f'<line class="axis" x1="{self.x:.1f}" y1="{TOP}" x2="{self.x:.1f}" y2="{foot}"/>'
        middle = f'x="{self.x:.1f}" text-anchor="middle"'
        yield f'<text {middle} y="14">{html.escape(self.name)}</text>'
        if self.numeric:
            yield f'<text class="faint" {middle} y="{TOP - 5}">{self.high:.4g}</text>'
            yield f'<text class="faint" {middle} y="{foot + 17}">{self.low:.4g}</text>'
        else:
            for word in self.words:
                place = f'x="{self.x + 6:.1f}" y="{self.y(word) + 4:.1f}"'
                yield f'<text class="faint" {place}>{html.escape(word)}</text>'


def _parallel(result: Result, names: Sequence[str]) -> str:
    trials = [trial for trial in result.ranked if set(names) <= set(trial.tuned)]
    columns = [*names, result.metric]
    step = (WIDTH - LEFT - RIGHT) / max(1, len(columns) - 1)
    axes = [
        _Axis(name, [_value(trial, name, result) for trial in trials], LEFT + step * index)
        for index, name in enumerate(columns)
    ]
    lines = []
    # The best is drawn last, on top of the others.
    for trial in reversed(trials):
        points = " ".join(
            f"{axis.x:.1f},{axis.y(_value(trial, axis.name, result)):.1f}" for axis in axes
        )
        goodness = axes[-1].share(_value(trial, result.metric, result))
        if result.direction == "Minimize":
            goodness = 1 - goodness
        mark = " best" if trial is trials[0] else ""
        colour = (
            f"hsl({210 - 60 * goodness:.0f} {25 + 50 * goodness:.0f}% {62 - 22 * goodness:.0f}%)"
        )
        lines.append(
            f'<polyline class="trial{mark}" stroke="{colour}" points="{points}">'
            f"<title>{html.escape(trial.name)}: {trial.objective:.4g}</title></polyline>"
        )
    drawn = [part for axis in axes for part in axis.drawn()]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'aria-label="Parallel coordinates of all trials">{"".join(drawn + lines)}</svg>'
    )


def _value(trial: Trial, name: str, result: Result) -> str:
    return str(trial.objective) if name == result.metric else trial.tuned[name]


def _table(result: Result, names: Sequence[str]) -> str:
    ranked = result.ranked
    rest = [trial for trial in result.trials if trial not in ranked]
    head = "".join(f'<th class="number">{html.escape(name)}</th>' for name in names)
    rows = []
    for place, trial in enumerate([*ranked, *rest], 1):
        cells = "".join(_cell(trial.tuned.get(name, "")) for name in names)
        value = "" if trial.objective is None else f"{trial.objective:.4g}"
        took = "" if trial.seconds is None else duration(trial.seconds)
        mark = ' class="best"' if place == 1 else ""
        rows.append(
            f'<tr{mark}><td class="number">{place}</td><td class="number">{value}</td>{cells}'
            f'<td>{html.escape(trial.status)}</td><td class="number">{took}</td>'
            f"<td>{html.escape(trial.name)}</td></tr>"
        )
    return (
        '<table><thead><tr><th class="number">#</th>'
        f'<th class="number">{html.escape(result.metric)}</th>{head}'
        '<th>state</th><th class="number">took</th><th>training job</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(text: str) -> str:
    """A tuned value; of a long number four digits, and all of it where the pointer rests."""
    whole = html.escape(text)
    if as_numbers([text]) is None or len(text) <= 6:
        return f'<td class="number">{whole}</td>'
    return f'<td class="number" title="{whole}">{float(text):.4g}</td>'
