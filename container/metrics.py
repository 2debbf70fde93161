"""Every metric: the line that is printed and the tuner's regex, from one object. Stdlib only.

`container` prints with it; `launcher` sends its regexes to SageMaker. So the two cannot disagree.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A number that training reports under one name."""

    name: str
    direction: Literal["Maximize", "Minimize"]

    def text(self, value: float) -> str:
        """The printed form of one value, such as `validation:loss=0.350000;`."""
        return f"{self.name}={value:.6g};"

    @property
    def regex(self) -> str:
        """A pattern whose one group is the value; SageMaker matches it on each line of the log."""
        return rf"{re.escape(self.name)}=(-?[0-9.]+(?:e[+-]?[0-9]+)?);"


TRAIN_LOSS = Metric("train:loss", "Minimize")
TRAIN_ACCURACY = Metric("train:accuracy", "Maximize")
VALIDATION_LOSS = Metric("validation:loss", "Minimize")
VALIDATION_ACCURACY = Metric("validation:accuracy", "Maximize")
TEST_LOSS = Metric("test:loss", "Minimize")
TEST_ACCURACY = Metric("test:accuracy", "Maximize")
TEST_TOP_5_ACCURACY = Metric("test:top-5-accuracy", "Maximize")
TEST_BALANCED_ACCURACY = Metric("test:balanced-accuracy", "Maximize")
TEST_CALIBRATION_ERROR = Metric("test:calibration-error", "Minimize")

METRICS = (
    TRAIN_LOSS,
    TRAIN_ACCURACY,
    VALIDATION_LOSS,
    VALIDATION_ACCURACY,
    TEST_LOSS,
    TEST_ACCURACY,
    TEST_TOP_5_ACCURACY,
    TEST_BALANCED_ACCURACY,
    TEST_CALIBRATION_ERROR,
)


def line(values: Mapping[Metric, float]) -> str:
    """All values of one epoch on one line, in the form the tuner's regexes read."""
    return " ".join(metric.text(value) for metric, value in values.items())


def definitions() -> list[dict[str, str]]:
    """SageMaker's `MetricDefinitions`, at most 40, each regex within 500 characters."""
    return [{"Name": metric.name, "Regex": metric.regex} for metric in METRICS]
