"""The report's section on the course of learning: losses, accuracies, learning rate."""

import numpy as np

from container.debugging.report.material import Material
from container.debugging.report.plot import Line, line_chart
from container.debugging.rules.losses import loss_points
from container.debugging.tensors import EVAL, TRAIN


def section(material: Material) -> str:
    """Curves of both phases. Empty where nothing was measured."""
    pictures = (_losses, _accuracies, _steps, _rates, _search)
    return "".join(picture(material) for picture in pictures)


def _curve(material: Material, metric: str) -> tuple[list[float], list[float]]:
    entries = [entry for entry in material.epochs if metric in entry]
    return [entry["epoch"] for entry in entries], [entry[metric] for entry in entries]


def _losses(material: Material) -> str:
    return line_chart(
        "Loss after each epoch",
        [
            Line("training", *_curve(material, "train:loss"), colour=1, dots=True),
            Line("validation", *_curve(material, "validation:loss"), colour=2, dots=True),
        ],
        x_label="epoch",
        y_label="cross-entropy",
    )


def _accuracies(material: Material) -> str:
    lines = []
    for colour, name in ((1, "train"), (2, "validation")):
        epochs, values = _curve(material, f"{name}:accuracy")
        label = "training" if name == "train" else name
        lines.append(Line(label, epochs, [100 * v for v in values], colour=colour, dots=True))
    return line_chart("Accuracy after each epoch", lines, x_label="epoch", y_label="% right")


def _steps(material: Material) -> str:
    """smdebug's view: CrossEntropyLoss for training and validation, step by step."""
    if material.tensors is None:
        return ""
    lines = []
    for colour, name, mode in ((1, "training", TRAIN), (2, "validation", EVAL)):
        points = loss_points(material.tensors, mode)
        if not points:
            continue
        names = material.tensors.collection("losses", mode)
        at = [float(material.tensors.global_step(names[0], mode, p.step)) for p in points]
        lines.append(Line(name, at, [p.value for p in points], colour=colour, faint=len(at) > 60))
    return line_chart(
        "CrossEntropyLoss step by step, from smdebug",
        lines,
        x_label="step (training and validation counted together)",
        y_label="cross-entropy",
    )


def _rates(material: Material) -> str:
    profile = material.profile
    steps = [float(step + 1) for step in profile.numbers]
    return line_chart(
        "Learning rate",
        [Line("learning rate", steps, list(profile.rates), colour=3)],
        x_label="step",
    )


def _search(material: Material) -> str:
    """The learning-rate finder's curve, where one was looked for."""
    found = material.search
    if not found:
        return ""
    rates, losses, chosen = found["rates"], found["losses"], found["chosen"]
    mark = Line("chosen", [chosen], [float(np.interp(chosen, rates, losses))], colour=2)
    reason = (
        "half-way, on this axis, from the steepest fall to the lowest point"
        if np.argmin(losses) > 1
        else "a usual rate, since the loss falls nowhere"
    )
    return line_chart(
        "Search for a learning rate",
        [Line("smoothed loss", rates, losses), mark],
        x_label="learning rate",
        y_label="cross-entropy",
        x_logarithmic=True,
        note=f"Before training, {len(rates)} steps with a rising rate. {chosen:.2g} is {reason}; "
        "the network was then put back.",
    )
