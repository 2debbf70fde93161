"""The report's section on time: where each step's went."""

import numpy as np

from container.debugging.clock import Clock
from container.debugging.records import Array
from container.debugging.report.material import Material
from container.debugging.report.plot import Line, line_chart, shares

WORDS = {
    "data_wait": "waiting for images",
    "to_device": "copying to the device",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "hook": "smdebug",
    "checkpoint": "checkpoints",
    "evaluation": "evaluation",
}


def section(material: Material) -> str:
    """Empty where no step was timed."""
    clock = material.clock
    if clock is None or not clock.starts:
        return ""
    return (
        '<div class="wide">'
        + shares("Where the time went", [(WORDS[k], v) for k, v in clock.totals().items()])
        + "</div>"
        + _durations(clock)
    )


def _durations(clock: Clock) -> str:
    seconds = step_seconds(clock)
    return line_chart(
        "Time of each step",
        [Line("a step", [float(i) for i in range(1, len(seconds) + 1)], list(1000 * seconds))],
        x_label="measured step",
        y_label="milliseconds",
    )


def step_seconds(clock: Clock) -> Array:
    """How long each measured step took, all its phases together."""
    phases: Array = np.array([np.asarray(values) for values in clock.steps.values()], np.float64)
    return np.asarray(phases.sum(axis=0))
