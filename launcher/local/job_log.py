"""What a training job on this machine has printed, and the metrics in it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_log(directory: Path) -> str:
    """All that a job has printed."""
    path = directory / "log.txt"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def final_metrics(directory: Path, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The last value of each metric in the log, found by the request's own expressions."""
    log = read_log(directory)
    found = []
    for definition in request["AlgorithmSpecification"].get("MetricDefinitions", ()):
        if values := re.findall(definition["Regex"], log):
            found.append({"MetricName": definition["Name"], "Value": float(values[-1])})
    return found
