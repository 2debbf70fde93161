"""The report's section on the inside of the network: gradients, updates, activations."""

import itertools
from collections.abc import Mapping
from html import escape

import numpy as np

from container.debugging.records import Array
from container.debugging.report.material import Material
from container.debugging.report.plot import figure, heat_map, number, scale
from container.debugging.tensors import TRAIN, Tensors

_MOST_COLUMNS = 120


def section(material: Material) -> str:
    """Heat maps of layers over steps. Empty where no such tensors were saved."""
    tensors = material.tensors
    if tensors is None:
        return ""
    return "".join(
        (
            _map(
                tensors,
                "Gradient norm by layer",
                tensors.names(r"^gradient/.*(conv\d|downsample\.0|fc)\.weight"),
                "l2_norm",
                "How strongly each layer is told to change. Rows that stay dark do not learn; "
                "the first layer is at the top, the head at the bottom.",
            ),
            _map(
                tensors,
                "Weight updates by layer",
                tensors.names("^update/"),
                "mean",
                "How far each layer's weights moved since the look before, as a share of their "
                "length. A thousandth for each step is ordinary; above one the layer is thrown "
                "about.",
            ),
            _activity(tensors),
            _map(
                tensors,
                "Spread of activations",
                tensors.names(r"relu_output_"),
                "std",
                "The standard deviation of what each ReLU passes on. It should neither die away "
                "nor grow from the top row to the bottom one.",
            ),
        )
    )


def _matrix(
    tensors: Tensors, names: list[str], measure: str
) -> tuple[list[str], list[int], Array] | None:
    """Rows of layers, first to last, and columns of steps."""
    series = {
        name: {point.step: point.value for point in tensors.measure(name, measure, TRAIN)}
        for name in names
    }
    steps = _columns(series)
    kept = sorted((name for name in names if series[name]), key=_depth)
    if not kept or not steps:
        return None
    rows = [[series[name].get(step, np.nan) for step in steps] for name in kept]
    return kept, steps, np.array(rows, dtype=np.float64)


def _columns(rows: Mapping[str, Mapping[int, float]]) -> list[int]:
    """The steps of all rows; of very many, some that are spread evenly."""
    steps = sorted({step for values in rows.values() for step in values})
    if len(steps) <= _MOST_COLUMNS:
        return steps
    return [steps[i] for i in np.linspace(0, len(steps) - 1, _MOST_COLUMNS).astype(int)]


def _map(tensors: Tensors, title: str, names: list[str], measure: str, note: str) -> str:
    found = _matrix(tensors, names, measure)
    if not found:
        return ""
    kept, steps, values = found
    logs: Array = np.log10(np.where(values > 0, values, np.nan))
    seen = logs[np.isfinite(logs)]
    if not seen.size:
        return ""
    low, high = float(np.floor(seen.min())), float(np.ceil(seen.max()))
    first, last = number(float(10 ** seen.min())), number(float(10 ** seen.max()))
    alt = (
        f"{len(kept)} layers from {_short(kept[0])} to {_short(kept[-1])}, steps {steps[0]} to "
        f"{steps[-1]}, values from {first} to {last}."
    )
    return figure(
        title,
        _with_stages(kept, heat_map(title, logs, alt, low=low, high=max(high, low + 1)))
        + _ends(steps)
        + scale(f"10^{int(low)}", f"10^{int(max(high, low + 1))}"),
        note,
    )


def _activity(tensors: Tensors) -> str:
    """The share of channels that are hardly ever above zero, for each ReLU."""
    names = tensors.names("relu_activity")
    rows: dict[str, dict[int, float]] = {}
    for name in names:
        for step in tensors.steps(name, TRAIN):
            value = tensors.raw(name, TRAIN, step)
            if value is not None:
                rows.setdefault(name, {})[step] = float(np.mean(value < 0.01))
    steps = _columns(rows)
    if not rows:
        return ""
    kept = sorted(rows, key=_depth)
    matrix: Array = np.array([[rows[name].get(step, np.nan) for step in steps] for name in kept])
    title = "Silent channels by ReLU"
    alt = (
        f"{len(kept)} ReLUs, steps {steps[0]} to {steps[-1]}, at most "
        f"{100 * float(np.nanmax(matrix)):.0f} percent of a layer's channels silent."
    )
    return figure(
        title,
        _with_stages(kept, heat_map(title, matrix, alt, low=0, high=1))
        + _ends(steps)
        + scale("0 %", "100 % silent"),
        "Channels that are above zero less than one time in a hundred. A bright row is a layer "
        "that has gone dead.",
    )


def _with_stages(names: list[str], picture: str) -> str:
    """The map, with the parts of the network beside its rows."""
    parts = itertools.groupby(_short(name).partition(".")[0].partition("_")[0] for name in names)
    spans = "".join(
        f'<span style="flex-grow:{len(list(rows))}">{escape(part)}</span>' for part, rows in parts
    )
    return (
        f'<div class="layers"><div class="stages" aria-hidden="true">{spans}</div>{picture}</div>'
    )


def _ends(steps: list[int]) -> str:
    return f'<p class="ends"><span>step {steps[0]}</span><span>step {steps[-1]}</span></p>'


def _depth(name: str) -> tuple[float, ...]:
    """Where a layer lies in a ResNet, from its name."""
    plain = _short(name)
    if plain.startswith("layer"):
        digits = "".join(c if c.isdigit() else " " for c in plain).split()
        late = 1.0 if "downsample" in plain else 0.0
        return (1.0, *(float(digit) for digit in digits[:2]), late, *map(float, digits[2:]))
    return (2.0,) if plain.startswith("fc") else (0.0,)


def _short(name: str) -> str:
    return (
        name.rpartition("/")[2]
        .removeprefix("ResNet_")
        .removeprefix("Head_")
        .removeprefix("LastStage_")
        .removesuffix(".weight")
    )
