"""The last word on a trained network: its answers on images that nothing was decided by."""

from collections.abc import Sequence

from container import metrics
from container.evaluation import (
    balanced_accuracy,
    calibration,
    calibration_error,
    class_qualities,
    confused_pairs,
    confusion_matrix,
    top_accuracy,
)
from container.metrics import Metric
from container.progress import say
from container.training.passes import Score

_NAMED = 3


def measure(score: Score, classes: Sequence[str]) -> dict[Metric, float]:
    """The metrics of the test."""
    matrix = confusion_matrix(score.scores.argmax(axis=1), score.truth, len(classes))
    return {
        metrics.TEST_LOSS: score.loss,
        metrics.TEST_ACCURACY: score.accuracy,
        metrics.TEST_TOP_5_ACCURACY: top_accuracy(score.scores, score.truth, 5),
        metrics.TEST_BALANCED_ACCURACY: balanced_accuracy(matrix),
        metrics.TEST_CALIBRATION_ERROR: calibration_error(calibration(score.scores, score.truth)),
    }


def summarise(score: Score, classes: Sequence[str]) -> None:
    """Print the classes that are hardest, and those that are taken for each other."""
    matrix = confusion_matrix(score.scores.argmax(axis=1), score.truth, len(classes))
    qualities = [each for each in class_qualities(matrix, classes) if each.f1 < 1]
    if not qualities:
        say("Every test image was recognised.")
        return
    hardest = sorted(qualities, key=lambda quality: quality.f1)[:_NAMED]
    say(
        "Hardest classes: "
        + "; ".join(
            f"{each.name} (recall {each.recall:.0%} of {each.images}, "
            f"precision {each.precision:.0%})"
            for each in hardest
        )
    )
    shown = dict(zip(classes, matrix.sum(axis=1), strict=True))
    say(
        "Most confused: "
        + "; ".join(
            f"{truth} taken for {given} ({count} of {shown[truth]})"
            for truth, given, count in confused_pairs(matrix, classes, _NAMED)
        )
    )
