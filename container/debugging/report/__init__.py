"""`report.html` and `report.json` in output/data: the whole training on one page."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from container.atomic import write_atomically
from container.debugging.profiler.utilisation import OverallSystemUsage
from container.debugging.records import Array
from container.debugging.report.material import Answers, Material
from container.debugging.report.page import render
from container.debugging.results import as_json
from container.evaluation import (
    balanced_accuracy,
    calibration,
    calibration_error,
    class_qualities,
    confused_pairs,
    top_accuracy,
)

_WHOLE = 2000
"""Up to so many classes the confusion matrix is written whole; of 10,000 it takes gigabytes."""


def write(material: Material, directory: Path) -> Path:
    """Write both files; returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    # Names of image files, which are in both, need not be UTF-8.
    text = json.dumps(_plain(as_data(material)), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(directory / "report.json", text.encode(errors="backslashreplace"))
    path = directory / "report.html"
    write_atomically(path, render(material).encode(errors="backslashreplace"))
    return path


def as_data(material: Material) -> dict[str, Any]:
    """What the page shows, for programs."""
    data: dict[str, Any] = {
        "format": "kennel-report/1",
        "outcome": material.outcome,
        "failure": material.failure,
        "started": material.started,
        "ended": material.ended,
        "device": material.device,
        "hyperparameters": material.hyperparameters,
        "versions": material.versions,
        "data": {
            "classes": material.classes,
            "counts": material.counts,
            "digest": material.digest,
            "rejected": material.rejected,
        },
        "metrics": material.metrics,
        "rate_search": material.search,
        "rules": [json.loads(as_json(result)) for result in material.results],
        "tensors_missing": material.tensors_missing,
    }
    profile = material.profile
    if profile.totals:
        data["seconds"] = profile.totals
    if profile.values:
        data["machine"] = OverallSystemUsage().summary(profile)
    if profile.operators:
        data["operators"] = profile.operators
    data["profile_rules"] = [json.loads(as_json(result)) for result in material.profile_results]
    if material.answers and len(material.answers.truth):
        data["answers"] = _answers(material.answers, material.classes)
    return data


def _answers(answers: Answers, classes: Sequence[str]) -> dict[str, Any]:
    matrix = answers.matrix(len(classes))
    bins = calibration(answers.scores, answers.truth)
    return {
        "split": answers.split,
        "accuracy": float(answers.right.mean()),
        "top_5_accuracy": top_accuracy(answers.scores, answers.truth, 5),
        "balanced_accuracy": balanced_accuracy(matrix),
        "classes": [
            asdict(quality) | {"f1": quality.f1} for quality in class_qualities(matrix, classes)
        ],
        **_confusion(matrix),
        "most_confused": confused_pairs(matrix, classes, 20),
        "calibration": [asdict(each) for each in bins],
        "calibration_error": calibration_error(bins),
    }


def _confusion(matrix: Array) -> dict[str, Any]:
    """The whole matrix; of very many classes `[true, given, count]` of what is not zero."""
    if len(matrix) <= _WHOLE:
        return {"confusion": matrix.tolist()}
    places = np.nonzero(matrix)
    return {"confusion_nonzero": np.column_stack([*places, matrix[places]]).tolist()}


def _plain(value: Any) -> Any:
    """JSON has neither infinity nor NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
