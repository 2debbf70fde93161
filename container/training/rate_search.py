"""`lr=auto`: a short run with a rising learning rate shows where the loss falls fastest.

https://arxiv.org/abs/1506.01186, section 3.3
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from container.errors import UserError
from container.progress import say

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 100
USUAL = 1e-3
"""Taken where the search tells nothing: the rate of a job that asks for no search."""
_SMOOTHING = 0.9
_DIVERGED = 4.0
"""The search ends where the smoothed loss is so many times its lowest value."""


@dataclass(frozen=True)
class RateSearch:
    """What was tried and what was chosen."""

    chosen: float
    rates: list[float]
    losses: list[float]
    """Smoothed, one for each rate."""

    def as_json(self) -> dict[str, Any]:
        """Plain data, for checkpoints and the report."""
        return asdict(self)


def search(
    step: Callable[[Tensor, Tensor, float], float], batches: Iterable[tuple[Tensor, Tensor]]
) -> RateSearch:
    """Train on each batch with a higher rate than the last, until the loss runs away.

    The caller puts the network back as it was.

    Args:
        step: trains on views and labels with a learning rate, and returns the loss.
        batches: up to `STEPS` of them are used.

    Raises:
        UserError: the loss is not a number from the start.
    """
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    for number, (views, labels) in enumerate(batches):
        if number == STEPS:
            break
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / (STEPS - 1))
        loss = step(views, labels, rate)
        if not math.isfinite(loss):
            break
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        rates.append(rate)
        losses.append(average / (1 - _SMOOTHING ** (number + 1)))
        if losses[-1] > _DIVERGED * min(losses):
            break
    if not rates:
        raise UserError(
            "lr=auto found no learning rate: the loss is not a finite number from the first step; "
            "check the images, or set lr yourself."
        )
    chosen = choose(np.array(rates), np.array(losses))
    if chosen is None:
        say(f"lr=auto saw the loss fall nowhere, and takes {USUAL:g}; check images and labels.")
    return RateSearch(chosen or USUAL, rates, losses)


def choose(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float | None:
    """Half-way, on a logarithmic axis, from the steepest fall of the loss to its lowest point.

    At the steepest fall learning could be faster; at the lowest point it is about to run away.

    Args:
        rates: rising, (N,).
        losses: smoothed, (N,).

    Returns:
        the rate, or None where the loss is lowest at the start.
    """
    end = int(losses.argmin()) + 1
    if end < 3:
        return None
    slopes = np.gradient(losses[:end], np.log(rates[:end]))
    return float(np.sqrt(rates[int(slopes.argmin())] * rates[end - 1]))
