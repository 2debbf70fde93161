"""An explanation: one number for each cell of a grid over what the network saw."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from container.serving.engines.engine import Scores
from container.serving.explanation.wanted import Method

Cells = NDArray[np.float32]
"""Evidence for a class, of shape (rows, columns), in units of the class's score."""


@dataclass(frozen=True)
class Explanation:
    """The evidence for one class in one image."""

    method: Method
    scores: Scores
    """The network's logits, of shape (classes,)."""
    index: int
    """The class that is explained."""
    cells: Cells
    offset: float | None
    """What the mean of the cells lacks to the class's score; None where they do not add up to it.

    For a class activation map it is the head's bias and the sum is exact; for integrated gradients
    it is the score of the neutral image, and the sum is as close as the steps are fine.
    """

    @property
    def low(self) -> float:
        """The least evidence of all cells; it may speak against the class."""
        return float(self.cells.min())

    @property
    def high(self) -> float:
        """The most evidence of all cells."""
        return float(self.cells.max())

    def scaled(self) -> Cells:
        """The cells from 0, the least, to 1, the most; all 0 where they are equal."""
        spread = self.high - self.low
        if not spread:
            return np.zeros_like(self.cells)
        scaled: Cells = (self.cells - self.low) / spread
        return scaled


def winner(scores: Scores, index: int | None) -> int:
    """The class to explain: the one that was named, else the one with the best score."""
    return int(scores.argmax()) if index is None else index
