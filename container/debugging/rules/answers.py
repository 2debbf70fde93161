"""Rules on labels and predictions: classes of very different sizes, and classes mixed up."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from container.debugging.records import Array
from container.debugging.rules.rule import Finding, MissingError, Rule, parameter
from container.debugging.tensors import EVAL, GLOBAL, TRAIN, Tensors

_LABELS = r"labels|Loss_input_1"
_PREDICTIONS = r"predictions|Loss_input_0"
_FEWEST = 10
"""Images of a class below which nothing is said about it."""


@dataclass(frozen=True)
class ClassImbalance(Rule):
    """Some classes have far more images than others, or are hardly ever recognised."""

    illness: ClassVar = "Classes have very different numbers of images, or one is hardly known."
    advice: ClassVar = (
        "Collect more images of the small classes, or leave some of the large ones out; look at "
        "the class's images for wrong labels."
    )
    collections: ClassVar = ("labels",)

    threshold_imbalance: float = parameter(10.0, "the largest class's size over the smallest's")
    threshold_misprediction: float = parameter(0.7, "share of a class's images taken for others")
    samples: int = parameter(500, "labels that must have been seen")
    argmax: bool = parameter(True, "predictions are scores, one for each class; AWS: False")
    labels_regex: str = parameter(_LABELS, "the labels; AWS: .*labels")
    predictions_regex: str = parameter(_PREDICTIONS, "the predictions; AWS: .*predictions")

    def check(self, tensors: Tensors) -> Finding | None:
        """Sizes come from training, mistakes from the newest evaluation."""
        names = tensors.names(self.labels_regex)
        if not names:
            raise MissingError("no labels were saved")
        mode = tensors.mode_of(names[0])
        counts: Array = np.zeros(0, dtype=np.int64)
        for step in tensors.steps(names[0], mode):
            labels = tensors.raw(names[0], mode, step)
            if labels is None:
                continue
            new: Array = np.bincount(_classes(labels), minlength=len(counts))
            new[: len(counts)] += counts
            counts = new
            seen = counts[counts > 0]
            # With few labels a class's size is chance: wait for thirty of each.
            if counts.sum() < max(self.samples, 30 * len(seen)) or len(seen) < 2:
                continue
            if seen.max() / seen.min() > self.threshold_imbalance:
                return Finding(
                    step,
                    {
                        "largest_class": int(counts.argmax()),
                        "smallest_class": int(np.where(counts > 0, counts, counts.max()).argmin()),
                        "ratio": round(float(seen.max() / seen.min()), 2),
                    },
                )
        return self._unknown_class(tensors)

    def _unknown_class(self, tensors: Tensors) -> Finding | None:
        step, truth, answers = newest_evaluation(
            tensors, self.labels_regex, self.predictions_regex, self.argmax
        )
        # A network that knows no class yet has not been shown to fail at one.
        if (
            len(truth) < self.samples
            or np.mean(truth != answers) > self.threshold_misprediction / 2
        ):
            return None
        for label in np.unique(truth):
            members = truth == label
            wrong = float(np.mean(answers[members] != label))
            if members.sum() >= _FEWEST and wrong > self.threshold_misprediction:
                return Finding(step, {"class": int(label), "mispredicted": round(wrong, 4)})
        return None


@dataclass(frozen=True)
class Confusion(Rule):
    """A class is often taken for another."""

    illness: ClassVar = "A class is often taken for another."
    advice: ClassVar = (
        "Look at the most confused pairs in the report: wrong labels, classes that look alike, or "
        "too few images. A larger image-size shows finer differences."
    )
    collections: ClassVar = ("labels", "predictions")
    by_default: ClassVar = False

    min_diag: float = parameter(0.9, "share of a class's images that must be recognised")
    max_off_diag: float = parameter(0.1, "share of a class's images that may go to one other class")
    argmax: bool = parameter(True, "predictions are scores, one for each class")
    labels_regex: str = parameter(_LABELS, "the labels; AWS: a collection")
    predictions_regex: str = parameter(_PREDICTIONS, "the predictions; AWS: a collection")

    def check(self, tensors: Tensors) -> Finding | None:
        """The newest evaluation's matrix, with room for chance where a class has few images."""
        step, truth, answers = newest_evaluation(
            tensors, self.labels_regex, self.predictions_regex, self.argmax
        )
        for label in np.unique(truth):
            given = answers[truth == label]
            if len(given) < _FEWEST:
                continue
            right = int((given == label).sum())
            if _bounds(right, len(given))[1] < self.min_diag:
                return Finding(
                    step, {"class": int(label), "recognised": round(right / len(given), 4)}
                )
            others, counts = np.unique(given[given != label], return_counts=True)
            for other, count in zip(others, counts, strict=True):
                if _bounds(int(count), len(given))[0] > self.max_off_diag:
                    return Finding(
                        step,
                        {
                            "class": int(label),
                            "taken_for": int(other),
                            "share": round(int(count) / len(given), 4),
                        },
                    )
        return None


def newest_evaluation(
    tensors: Tensors, labels_regex: str, predictions_regex: str, argmax: bool
) -> tuple[int, Array, Array]:
    """The labels and answers of the last evaluation, and its last step. Raises MissingError."""
    modes = (EVAL, GLOBAL, TRAIN)
    for mode in modes:
        labels, predictions = (
            tensors.names(labels_regex, mode),
            tensors.names(predictions_regex, mode),
        )
        if labels and predictions:
            pairs = list(_pairs(tensors, labels[0], predictions[0], mode, argmax))
            if pairs:
                newest = _last_run(pairs)
                return (
                    newest[-1][1],
                    np.concatenate([truth for *_, truth, _ in newest]),
                    np.concatenate([answers for *_, answers in newest]),
                )
    raise MissingError("no labels with predictions were saved")


_Pair = tuple[int, int, Array, Array]
"""Global step, step, labels and answers."""


def _pairs(
    tensors: Tensors, labels: str, predictions: str, mode: str, argmax: bool
) -> Iterator[_Pair]:
    for step in tensors.steps(labels, mode):
        truth = tensors.raw(labels, mode, step)
        given = tensors.raw(predictions, mode, step)
        if truth is not None and given is not None:
            answers = given.argmax(axis=-1) if argmax else given
            where = tensors.global_step(labels, mode, step)
            yield where, step, _classes(truth), answers.reshape(-1)


def _classes(labels: Array) -> Array:
    """The number of each image's class: where labels are mixed, of the one with the largest share.

    Mixup's labels are shares of all classes (N, C); others are (N,), or a column of a script's.
    """
    mixed = labels.ndim == 2 and labels.shape[1] > 1
    classes: Array = labels.argmax(axis=1) if mixed else labels.reshape(-1).astype(np.int64)
    return classes


def _last_run(pairs: list[_Pair]) -> list[_Pair]:
    """The pairs at the end between which no step of another mode lies: of one evaluation.

    Kennel's hook leaves a number of the mode out where another evaluation follows at once.
    """
    start = len(pairs) - 1
    while start and pairs[start][0] - pairs[start - 1][0] == pairs[start][1] - pairs[start - 1][1]:
        start -= 1
    return pairs[start:]


def _bounds(hits: int, total: int) -> tuple[float, float]:
    """Between what a share lies with 95 % confidence (Wilson)."""
    z, share = 1.96, hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return float(centre - half), float(centre + half)
