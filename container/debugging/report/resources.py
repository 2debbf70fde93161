"""The report's section on time: where each step's went, how busy the machine was, what to try."""

from collections.abc import Sequence
from html import escape

import numpy as np

from container.debugging.profiler import rules
from container.debugging.profiler.profile import Profile
from container.debugging.records import Array
from container.debugging.report.findings import table
from container.debugging.report.material import Material
from container.debugging.report.plot import Line, figure, line_chart, number, shares
from container.debugging.results import Result

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
_OPERATORS = 15


def section(material: Material) -> str:
    """Empty where nothing was measured."""
    profile = material.profile
    if not profile.totals and not profile.values:
        return ""
    parts = [(WORDS[name], value) for name, value in profile.totals.items()]
    return "".join(
        (
            f'<div class="wide">{shares("Where the time went", parts)}</div>' if parts else "",
            _durations(profile),
            _usage(profile),
            _operators(profile),
            _rules(profile, material.profile_results),
        )
    )


def advice(profile: Profile) -> list[str]:
    """What the timings say about batch size and workers, in plain words."""
    said = []
    total = sum(profile.totals.values())
    waiting = profile.totals.get("data_wait", 0.0) / total if total else 0.0
    if waiting > 0.2:
        said.append(
            f"{100 * waiting:.0f} % of the time training waited for images. Store them no larger "
            "than image-size needs, or take a machine with more cores."
        )
    elif total:
        said.append("Images are ready in time: more workers would not make training faster.")
    for name, values in profile.samples("GPUUtilization").items():
        mean = float(values.mean())
        if mean < 50:
            said.append(
                f"{name} was used {mean:.0f} % on average: the batch is too small for it. Raise "
                "batch-size, and lr with it, or take a smaller machine."
            )
    evaluating = profile.totals.get("evaluation", 0.0) / total if total else 0.0
    if evaluating > 0.3:
        said.append(
            f"{100 * evaluating:.0f} % of the time went into evaluation: a larger test-batch-size "
            "or fewer validation images make epochs shorter."
        )
    return said


def _durations(profile: Profile) -> str:
    seconds = profile.step_seconds
    return line_chart(
        "Time of each step",
        [Line("a step", [float(i) for i in range(1, len(seconds) + 1)], list(1000 * seconds))],
        x_label="measured step",
        y_label="milliseconds",
    )


def _usage(profile: Profile) -> str:
    """All cores, GPUs and the memory over the time of the job."""
    starts = [times[0] for times in profile.times.values() if len(times)]
    if not starts:
        return ""
    lines = []
    kinds = (
        (1, "processors", "CPUUtilization"),
        (2, "waiting for the disk", "I/OWaitPercentage"),
        (3, "GPUs", "GPUUtilization"),
        (4, "GPU memory", "GPUMemoryUtilization"),
        (8, "memory", "memory"),
    )
    for colour, name, dimension in kinds:
        series = profile.samples(dimension)
        if series:
            length = min(len(values) for values in series.values())
            mean: Array = np.mean([values[:length] for values in series.values()], axis=0)
            times = profile.times[dimension, next(iter(series))][:length] - min(starts)
            lines.append(Line(name, list(times), list(mean), colour=colour))
    return line_chart(
        "How busy the machine was", lines, x_label="seconds", y_label="% of all there is"
    )


def _operators(profile: Profile) -> str:
    if not profile.operators:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(str(row["operator"]))}</code></th>'
        f'<td class="n">{row["calls"]}</td><td class="n">{number(row["milliseconds"])}</td>'
        f'<td class="n">{number(row["own_milliseconds"])}</td></tr>'
        for row in profile.operators[:_OPERATORS]
    )
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Operator", "Calls", "All, ms", "Without inner ones, ms")
    )
    first = escape(str(profile.operators[0]["operator"]))
    content = (
        f'<div class="scroll"><table><caption>Most expensive: {first}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    note = "The trace beside the profile, trace.json.gz, opens in ui.perfetto.dev."
    return f'<div class="wide">{figure("Operators", content, note)}</div>'


def _rules(profile: Profile, results: Sequence[Result]) -> str:
    fired = {result.rule for result in results if result.fired}
    said = advice(profile)
    said += [
        f"{kind.__name__}: {kind.illness} {kind.advice}"
        for kind in rules.PROFILE_RULES
        if kind.__name__ in fired
    ]
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    rows = f"<details><summary>Profiler rules</summary>{table(results, 'Profiler rules')}</details>"
    return f'<div class="wide">{figure("What to try", f"<ul>{items}</ul>{rows}")}</div>'
