"""What a network's answers are worth: top-k, precision and recall, confusions, calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
"""Probabilities (N, classes)."""
Labels = NDArray[np.integer[Any]]
"""The number of each image's class, (N,)."""


@dataclass(frozen=True)
class ClassQuality:
    """How well one class is told from the others."""

    name: str
    images: int
    precision: float
    """Of the images that were taken for this class, the share that are."""
    recall: float
    """Of this class's images, the share that were recognised."""

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class CalibrationBin:
    """The answers that were given with about the same confidence."""

    confidence: float
    accuracy: float
    images: int


def confusion_matrix(given: Labels, truth: Labels, classes: int) -> NDArray[np.int64]:
    """How often each class (row) was taken for each (column)."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, given), 1)
    return counts


def top_accuracy(scores: Scores, truth: Labels, k: int) -> float:
    """The share of images whose class is among the k most probable ones."""
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    return float(((scores > own).sum(axis=1) < k).mean())


def class_qualities(matrix: NDArray[np.int64], names: Sequence[str]) -> list[ClassQuality]:
    """Precision and recall of every class that has images, from a confusion matrix."""
    right, shown, taken = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return [
        ClassQuality(
            name,
            images=int(shown[i]),
            precision=float(right[i] / max(taken[i], 1)),
            recall=float(right[i] / shown[i]),
        )
        for i, name in enumerate(names)
        if shown[i]
    ]


def balanced_accuracy(matrix: NDArray[np.int64]) -> float:
    """The mean recall: every class counts alike, however many images it has."""
    shown = matrix.sum(axis=1)
    kept = shown > 0
    return float((np.diag(matrix)[kept] / shown[kept]).mean())


def confused_pairs(
    matrix: NDArray[np.int64], names: Sequence[str], most: int
) -> list[tuple[str, str, int]]:
    """The class shown, the class answered and how often, the most frequent mistakes first."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), len(names)) for index in order]
    return [(names[a], names[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]


def calibration(scores: Scores, truth: Labels, bins: int = 10) -> list[CalibrationBin]:
    """Confidence and accuracy of the answers, in bins of equal width; empty ones are left out.

    Answers that are no numbers are in none of them.
    """
    known = np.isfinite(scores).all(axis=1)
    scores, truth = scores[known], truth[known]
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    members = [places == place for place in range(bins)]
    return [
        CalibrationBin(float(confidence[m].mean()), float(right[m].mean()), int(m.sum()))
        for m in members
        if m.any()
    ]


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """The mean distance of confidence from accuracy, 0 to 1; NaN without bins.

    https://arxiv.org/abs/1706.04599
    """
    if not bins:
        return math.nan
    total = sum(each.images for each in bins)
    return sum(each.images * abs(each.confidence - each.accuracy) for each in bins) / total
