"""`report.html` and `report.json` in output/data: the whole training on one page."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from container.atomic import write_atomically
from container.debugging.profiler.utilisation import OverallSystemUsage
from container.debugging.report.material import Material
from container.debugging.report.mistakes import calibration, confused_pairs
from container.debugging.report.page import render
from container.debugging.watch import as_json


def write(material: Material, directory: Path) -> Path:
    """Write both files; returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain(as_data(material)), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(directory / "report.json", text.encode())
    path = directory / "report.html"
    write_atomically(path, render(material).encode())
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
        matrix = material.answers.matrix(len(material.classes))
        data["answers"] = {
            "split": material.answers.split,
            "accuracy": float(material.answers.right.mean()),
            "confusion": matrix.tolist(),
            "most_confused": confused_pairs(matrix, material.classes),
            "calibration_error": calibration(material.answers)[1],
        }
    return data


def _plain(value: Any) -> Any:
    """JSON has neither infinity nor NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
