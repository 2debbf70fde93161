"""Everything that a report is made of, as it stands when the training ends, however it ends."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from container.debugging.profiler.profile import Profile
from container.debugging.records import Array
from container.debugging.results import Result
from container.debugging.tensors import Tensors
from container.evaluation import confusion_matrix
from container.image_files import ImageFile


class Split(Protocol):
    """The images of one split, as training holds them."""

    @property
    def images(self) -> Sequence[Array]:
        """Pixels of each image, RGB."""

    @property
    def labels(self) -> Array:
        """The number of each image's class."""

    @property
    def paths(self) -> Sequence[ImageFile]:
        """The file of each image."""


@dataclass(frozen=True)
class Answers:
    """What the trained network says about images that it was not trained on."""

    split: str
    truth: Array
    """The number of each image's class."""
    scores: Array
    """Probabilities, a row for each image."""
    images: Sequence[Array]
    """Pixels of each image, RGB."""
    paths: Sequence[ImageFile]

    @property
    def given(self) -> Array:
        """The most probable class of each image."""
        most: Array = self.scores.argmax(axis=1)
        return most

    @property
    def right(self) -> Array:
        """Whether each answer is right."""
        equal: Array = self.given == self.truth
        return equal

    def matrix(self, classes: int) -> Array:
        """How often each class (row) was taken for each (column)."""
        return confusion_matrix(self.given, self.truth, classes)


@dataclass
class Material:
    """What is known of one training; whatever is missing is left out of the report."""

    outcome: str
    """`completed`, `stopped` or `failed`."""
    failure: str = ""
    started: float = 0.0
    ended: float = 0.0
    """Seconds since 1970."""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    classes: Sequence[str] = ()
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Of each split, how many images each class has."""
    digest: str = ""
    rejected: Sequence[tuple[str, str]] = ()
    """Files that cannot be read, and why."""
    metrics: Sequence[Mapping[str, float]] = ()
    """`metrics.jsonl`: a mapping for each epoch, and one for the test."""
    search: Mapping[str, Any] | None = None
    """How the learning rate was found: `chosen`, `rates` and `losses`."""
    tensors: Tensors | None = None
    tensors_missing: str = ""
    """Why there are no tensors, or not all."""
    results: Sequence[Result] = ()
    answers: Answers | None = None
    profile: Profile = field(default_factory=Profile)
    profile_results: Sequence[Result] = ()

    @property
    def epochs(self) -> list[Mapping[str, float]]:
        """The metrics of every finished epoch."""
        return [entry for entry in self.metrics if "epoch" in entry]

    @property
    def latest(self) -> dict[str, float]:
        """The newest value of every metric."""
        merged: dict[str, float] = {}
        for entry in self.metrics:
            merged |= entry
        return merged


def read_metrics(path: Path) -> list[dict[str, float]]:
    """`metrics.jsonl`, as far as it is there."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (FileNotFoundError, ValueError):
        return []


def read_rejected(path: Path) -> list[tuple[str, str]]:
    """`rejected_images.csv`, as far as it is there."""
    import csv

    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [(row[0], row[1]) for row in list(csv.reader(file))[1:] if len(row) > 1]
    except FileNotFoundError:
        return []
