"""Occlusion: hide one part of the image after the other and see how far the score falls.

It asks nothing of the network but its scores, so every engine can do it.
Zeiler and Fergus, 2014, https://arxiv.org/abs/1311.2901
"""

import time
from collections.abc import Callable

import numpy as np

from container.images import Preprocessing
from container.serving.engines.engine import Images, Scores
from container.serving.explanation.activations import Square
from container.serving.explanation.deadline import TooSlow
from container.serving.explanation.explanation import Explanation, winner

CELLS = 7
"""Rows and columns of the map; a patch hides two by two cells, and every cell is hidden 4 times."""
CHUNK = 8
"""Images given to the engine at once, so that other requests get their turn in between."""


def occlusion(
    scores_of: Callable[[Images], Scores],
    square: Square,
    preprocessing: Preprocessing,
    index: int | None,
    deadline: float,
) -> Explanation:
    """By how much a class's score falls where a patch of ImageNet's mean colour hides the image.

    Raises:
        TooSlow: `deadline`, a time of `time.monotonic`, has passed.
    """
    scores = scores_of(square[np.newaxis])[0]
    chosen = winner(scores, index)
    size = len(square)
    # From one cell outside to one cell outside, so that cells at the edge are hidden as often.
    edges = np.round(np.linspace(-1, CELLS + 1, CELLS + 3) * size / CELLS).astype(int).clip(0)
    places = [(row, column) for row in range(CELLS + 1) for column in range(CELLS + 1)]
    grey = np.round(255 * np.array(preprocessing.mean)).astype(np.uint8)
    falls = np.empty(len(places), np.float32)
    for start in range(0, len(places), CHUNK):
        if time.monotonic() > deadline:
            raise TooSlow
        chunk = places[start : start + CHUNK]
        hidden = np.repeat(square[np.newaxis], len(chunk), axis=0)
        for image, (row, column) in zip(hidden, chunk, strict=True):
            image[edges[row] : edges[row + 2], edges[column] : edges[column + 2]] = grey
        falls[start : start + len(chunk)] = scores[chosen] - scores_of(hidden)[:, chosen]
    grid = falls.reshape(CELLS + 1, CELLS + 1)
    cells = (grid[:-1, :-1] + grid[:-1, 1:] + grid[1:, :-1] + grid[1:, 1:]) / 4
    return Explanation("occlusion", scores, chosen, cells.astype(np.float32), None)
