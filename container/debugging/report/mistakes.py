"""The report's section on answers: accuracy by class, confusions, worst mistakes, calibration."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from container.debugging.records import Array
from container.debugging.report.material import Answers, Material
from container.debugging.report.plot import (
    HEIGHT,
    WIDTH,
    bars,
    breakable,
    figure,
    heat_map,
    number,
    scale,
    svg,
)
from container.evaluation import calibration, calibration_error, confused_pairs

_SMALL, _NARROW = 20, 10
"""Up to so many classes the confusion matrix shows its numbers, and needs half a page."""
_MOST_ROWS = 500
"""Of more classes than that, neighbours share a pixel of the confusion matrix."""
_PAIRS, _WORST = 8, 12
_THUMBNAIL = 132


def section(material: Material) -> str:
    """Empty where the network was not evaluated."""
    answers = material.answers
    if answers is None or not len(answers.truth):
        return ""
    classes = material.classes
    matrix = answers.matrix(len(classes))
    return "".join(
        (
            _confusion(answers, matrix, classes),
            _pairs(answers, matrix, classes),
            _worst(answers, classes),
            _by_class(matrix, classes),
            _calibration(answers),
        )
    )


def _confusion(answers: Answers, matrix: Array, classes: Sequence[str]) -> str:
    together = -(-len(classes) // _MOST_ROWS)
    starts = np.arange(0, len(classes), together)
    matrix = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
    sums = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = matrix / sums
    right = int(answers.right.sum())
    sentence = f"{right} of {len(answers.truth)} {answers.split} images recognised."
    if len(classes) > _SMALL:
        alt = f"Rows are the {len(classes)} true classes, columns the answers. {sentence}"
        picture = heat_map("Confusion matrix", np.sqrt(shares), alt, low=0, high=1)
        content = picture.replace('class="heat"', 'class="heat square"') + scale(
            "never", "every image"
        )
        note = f"{sentence} Rows are true classes, columns answers, both in the order of names."
        if together > 1:
            note += f" A pixel stands for {together} classes each way."
        return figure("Confusion matrix", content, note)
    head = "".join(f'<th scope="col" title="{escape(n)}">{escape(n)}</th>' for n in classes)
    rows = "".join(
        f'<tr><th scope="row" title="{escape(name)}">{escape(name)}</th>'
        + "".join(
            _cell(int(matrix[i, j]), float(shares[i, j]), i == j) for j in range(len(classes))
        )
        + "</tr>"
        for i, name in enumerate(classes)
    )
    table = (
        '<div class="scroll"><table class="matrix"><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    note = f"{sentence} Rows are the true classes, columns the network's answers."
    card = figure("Confusion matrix", table, note)
    return card if len(classes) <= _NARROW else _wide(card)


def _cell(count: int, share: float, diagonal: bool) -> str:
    if not count:
        return '<td class="soft">·</td>'
    colour = "var(--series-3)" if diagonal else "var(--series-2)"
    strength = 12 + 50 * share
    style = f"background:color-mix(in srgb,{colour} {strength:.0f}%,transparent)"
    return f'<td style="{style}">{count}</td>'


def _pairs(answers: Answers, matrix: Array, classes: Sequence[str]) -> str:
    rows = ""
    for shown, taken, count in confused_pairs(matrix, classes, _PAIRS):
        truth, given = classes.index(shown), classes.index(taken)
        mistaken = int(np.flatnonzero((answers.truth == truth) & (answers.given == given))[0])
        others = np.flatnonzero(answers.truth == given)
        example = (
            _image(answers.images[int(others[0])], f"An image of {taken}")
            if len(others)
            else "<span></span>"
        )
        total = int((answers.truth == truth).sum())
        rows += (
            f'<div class="pair">{_image(answers.images[mistaken], f"{shown}, taken for {taken}")}'
            f"{example}<div><strong>{breakable(shown)}</strong> taken for "
            f"<strong>{breakable(taken)}</strong><br>"
            f'<span class="soft">{count} of {total} images</span></div></div>'
        )
    if not rows:
        return ""
    note = (
        "On the left an image that was taken for the other class, on the right one of that class."
    )
    return figure("Most confused pairs", rows, note)


def _worst(answers: Answers, classes: Sequence[str]) -> str:
    wrong = np.flatnonzero(~answers.right)
    if not len(wrong):
        return ""
    confidence = answers.scores.max(axis=1)
    items = ""
    for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:_WORST]:
        truth, given = classes[int(answers.truth[index])], classes[int(answers.given[index])]
        place = "/".join(str(answers.paths[int(index)]).split("/")[-2:])
        items += (
            f"<li>{_image(answers.images[int(index)], f'{truth}, taken for {given}')}"
            f"<strong>{breakable(truth)}</strong> taken for <strong>{breakable(given)}</strong>, "
            f"{100 * confidence[index]:.0f} % sure<br>"
            f'<span class="soft">{breakable(place)}</span></li>'
        )
    note = (
        "The wrong answers of which the network was surest. Look here first for wrong labels "
        "and for images that show something else."
    )
    return _wide(figure("Worst mistakes", f'<ul class="pictures">{items}</ul>', note))


def _by_class(matrix: Array, classes: Sequence[str]) -> str:
    totals = matrix.sum(axis=1)
    rows = [
        (name, float(matrix[i, i] / totals[i]), f"{matrix[i, i]} of {totals[i]}")
        for i, name in enumerate(classes)
        if totals[i]
    ]
    rows.sort(key=lambda row: row[1])
    first = bars("Weakest classes first", rows[:12], most=1, colour=3)
    rest = rows[12:]
    if rest:
        first += (
            f"<details><summary>The other {len(rest)} classes</summary>"
            + bars("The other classes", rest, most=1, colour=3)
            + "</details>"
        )
    return figure("Accuracy by class", first)


def _calibration(answers: Answers) -> str:
    found = calibration(answers.scores, answers.truth)
    if not found:
        return ""
    error = calibration_error(found)
    left, size, width = 60, HEIGHT - 62, WIDTH - 90
    drawn = f'<path class="diagonal" d="M{left} {12 + size}L{left + width} 12"/>'
    for tick in (0, 25, 50, 75, 100):
        y = 12 + size * (1 - tick / 100)
        drawn += f'<path class="grid" d="M{left} {y:.1f}H{left + width}"/>'
        drawn += f'<text class="tick end" x="{left - 7}" y="{y + 4:.1f}">{tick}</text>'
        x = left + width * tick / 100
        drawn += f'<text class="tick mid" x="{x:.1f}" y="{HEIGHT - 30}">{tick}</text>'
    drawn += f'<text class="tick mid" x="345" y="{HEIGHT - 7}">how sure the network was, %</text>'
    most = max(each.images for each in found)
    for each in found:
        mean, accuracy, count = each.confidence, each.accuracy, each.images
        radius = 4 + 9 * (count / most) ** 0.5
        drawn += (
            f'<circle class="s1" cx="{left + width * mean:.1f}" '
            f'cy="{12 + size * (1 - accuracy):.1f}" '
            f'r="{radius:.1f}" fill-opacity=".8"><title>{count} images: {100 * mean:.0f} % sure, '
            f"{100 * accuracy:.0f} % right</title></circle>"
        )
    alt = f"Calibration: expected error {100 * error:.1f} percentage points over {len(found)} bins"
    note = (
        f"How often answers were right (upwards, %) that were given with so much confidence. On "
        f"the dashed line the network knows what it knows; below it, it is too sure of itself. "
        f"Expected calibration error: {number(100 * error)} percentage points."
    )
    return figure("Calibration", svg(drawn, alt), note)


def _image(pixels: Array, alt: str) -> str:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=74, optimize=True)
    source = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{source}">'


def _wide(content: str) -> str:
    return f'<div class="wide">{content}</div>'
