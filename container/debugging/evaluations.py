"""The answers of a training's evaluations, of which the report shows the last ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from container.debugging.report.material import Answers, Split


@dataclass(frozen=True)
class _Evaluated:
    """The network's scores for all images of a split."""

    split: str
    logits: Tensor
    labels: Tensor


class Evaluations:
    """What the network answered last, and what it did when it was the best."""

    def __init__(self) -> None:
        self._last: _Evaluated | None = None
        self._best: _Evaluated | None = None

    def add(self, split: str, logits: Tensor, labels: Tensor) -> None:
        """An evaluation is done: the network's scores for all images of a split."""
        self._last = _Evaluated(split, logits.detach().float().cpu(), labels)

    def mark_best(self) -> None:
        """The network that was just evaluated is the best so far."""
        self._best = self._last

    def back_to_best(self) -> None:
        """The network is the best one again, and so are its answers."""
        self._last = self._best

    def last(self, splits: Mapping[str, Split]) -> Answers | None:
        """The last evaluation's, which is the test's where there is one."""
        if self._last is None:
            return None
        name, truth = self._last.split, self._last.labels.numpy()
        split = splits.get(name)
        # Of many hosts that hold other images, each knows its own alone.
        if split is None or not np.array_equal(split.labels, truth):
            return None
        scores = self._last.logits.softmax(1).numpy()
        return Answers(name, split.labels, scores, split.images, split.paths)
