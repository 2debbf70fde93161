"""The report's section on the rules: what fired, why, what to try, and what could not look."""

from collections.abc import Sequence
from html import escape

import numpy as np

from container.debugging.catalog import find
from container.debugging.report.material import Material
from container.debugging.report.plot import Line, line_chart, number
from container.debugging.results import Result, when
from container.debugging.rules.losses import rounds
from container.debugging.rules.rule import MissingError, Rule
from container.debugging.tensors import Tensors

_STATES = {
    "NoIssuesFound": ("good", "no issues found"),
    "IssuesFound": ("bad", "issues found"),
    "Error": ("unsure", "could not look"),
}


def section(material: Material) -> str:
    """A card for each rule that fired, then a table of all."""
    if not material.results:
        why = material.tensors_missing or (
            "No tensors were saved. Train with debug=standard to have rules look at losses, "
            "gradients, weights and activations."
        )
        return f'<p class="card">{escape(why)}</p>'
    missing = (
        f'<p class="card"><span class="pill unsure">data is missing</span> '
        f"{escape(material.tensors_missing)}</p>"
        if material.tensors_missing
        else ""
    )
    fired = [result for result in material.results if result.fired]
    cards = "".join(_card(result, material.tensors) for result in fired)
    rows = table(material.results, "All rules that looked")
    return f'{missing}{cards}<div class="card">{rows}</div>'


def table(results: Sequence[Result], caption: str) -> str:
    """A row for each rule."""
    rows = "".join(_row(result) for result in results)
    return (
        f'<table class="rules"><caption>{escape(caption)}</caption>'
        '<thead><tr><th scope="col">Rule</th><th scope="col">Result</th><th scope="col">Step</th>'
        f'<th scope="col">Evidence</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _card(result: Result, tensors: Tensors | None) -> str:
    kind = find(result.rule)
    return (
        f'<article class="card finding"><h3>{escape(result.rule)} '
        f'<span class="pill bad">{when(result)}</span></h3>'
        f"<p>{escape(kind.illness)}</p><p><strong>What to try.</strong> {escape(kind.advice)}</p>"
        f'<p class="soft">{escape(_evidence(result))}</p>{_plot(result, tensors)}</article>'
    )


def _row(result: Result) -> str:
    colour, words = _STATES[result.status]
    step = "" if result.step is None else str(result.step)
    return (
        f'<tr><th scope="row">{escape(result.rule)}</th><td><span class="pill {colour}">{words}'
        f'</span></td><td class="n">{step}</td><td>{escape(_evidence(result))}</td></tr>'
    )


def _evidence(result: Result) -> str:
    parts = []
    for name, value in result.evidence.items():
        written = number(value) if isinstance(value, float) else str(value)
        parts.append(written if name == "reason" else f"{name.replace('_', ' ')} {written.strip()}")
    return "; ".join(parts)


def _plot(result: Result, tensors: Tensors | None) -> str:
    """The course of the tensor that the rule names, or of the losses it is about."""
    name = result.evidence.get("tensor")
    if tensors is None:
        return ""
    kind = find(result.rule)
    if issubclass(kind, Rule) and kind.collections == ("losses",) and not name:
        return _losses(tensors)
    if not isinstance(name, str):
        return ""
    measure = "abs_mean" if name.startswith("gradient/") else "l2_norm"
    if result.rule == "WeightUpdateRatio":
        name, measure = f"update/{name}", "mean"
    points = tensors.measure(name, measure, tensors.mode_of(name))
    return line_chart(
        f"{name} over the steps",
        [Line(name, [float(p.step) for p in points], [p.value for p in points], colour=2)],
        x_label="step",
        y_label="mean magnitude" if measure == "abs_mean" else measure.replace("_", " "),
        logarithmic=True,
    )


def _losses(tensors: Tensors) -> str:
    """Training and validation as the loss rules see them: a mean for each evaluation."""
    try:
        found = rounds(tensors)
    except MissingError:
        return ""
    steps = [float(each.step) for each in found]
    return line_chart(
        "Mean losses up to each evaluation",
        [
            Line("training", steps, [float(np.mean(each.train)) for each in found], dots=True),
            Line(
                "validation",
                steps,
                [float(np.mean(each.validation)) for each in found],
                colour=2,
                dots=True,
            ),
        ],
        x_label="step",
        y_label="cross-entropy",
    )
