"""What is said about a network's answers is right, checked against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support, top_k_accuracy_score

from container import evaluation

CLASSES = 6
NAMES = [f"class {number}" for number in range(CLASSES)]


def answers(seed: int, images: int) -> tuple[evaluation.Scores, evaluation.Labels]:
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.full(CLASSES, 0.4), size=images)
    # Some classes have no images at all.
    return scores, generator.integers(0, CLASSES - 1, images)


@given(seed=st.integers(0, 10_000), images=st.integers(1, 200))
def test_precision_recall_and_f1_are_scikit_learn_s(seed: int, images: int) -> None:
    scores, truth = answers(seed, images)
    given_classes = scores.argmax(axis=1)
    matrix = evaluation.confusion_matrix(given_classes, truth, CLASSES)
    present = sorted(set(truth.tolist()))
    expected = precision_recall_fscore_support(
        truth, given_classes, labels=present, zero_division=0
    )
    found = evaluation.class_qualities(matrix, NAMES)
    assert [each.name for each in found] == [NAMES[number] for number in present]
    for column, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        assert [getattr(each, column) for each in found] == pytest.approx(list(values))
    assert evaluation.balanced_accuracy(matrix) == pytest.approx(np.mean(expected[1]))


@given(seed=st.integers(0, 10_000), k=st.integers(1, CLASSES - 1))
def test_top_k_accuracy_is_scikit_learn_s(seed: int, k: int) -> None:
    scores, truth = answers(seed, 50)
    expected = top_k_accuracy_score(truth, scores, k=k, labels=range(CLASSES))
    assert evaluation.top_accuracy(scores, truth, k) == pytest.approx(expected)


def test_calibration_compares_confidence_with_accuracy() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    bins = evaluation.calibration(scores, np.array([0, 1, 1, 1]))
    assert [(round(each.confidence, 2), each.accuracy, each.images) for each in bins] == [
        (0.6, 0, 1),
        (0.7, 1, 1),
        (0.8, 0, 1),
        (0.9, 1, 1),
    ]
    assert evaluation.calibration_error(bins) == pytest.approx((0.6 + 0.3 + 0.8 + 0.1) / 4)


def test_answers_that_are_no_numbers_have_no_calibration() -> None:
    scores = np.array([[np.nan, np.nan], [0.9, 0.1]])
    (only,) = evaluation.calibration(scores, np.array([0, 0]))
    assert (only.confidence, only.images) == (0.9, 1)
    assert np.isnan(evaluation.calibration_error(evaluation.calibration(scores[:1], np.array([0]))))


@given(arrays(np.int64, 40, elements=st.integers(0, 1)))
def test_answers_as_sure_as_they_are_right_have_no_calibration_error(
    truth: NDArray[np.int64],
) -> None:
    share = max(truth.mean(), 1 - truth.mean())
    most = int(truth.mean() >= 0.5)
    scores = np.full((len(truth), 2), 1 - share)
    scores[:, most] = share
    if share > 0.5:
        error = evaluation.calibration_error(evaluation.calibration(scores, truth))
        assert error == pytest.approx(0, abs=1e-9)


def test_the_pairs_most_often_confused_come_first() -> None:
    matrix = np.array([[5, 1, 0], [3, 4, 0], [0, 0, 2]])
    assert evaluation.confused_pairs(matrix, ["a", "b", "c"], 8) == [("b", "a", 3), ("a", "b", 1)]
