"""Rules on what moves the weights: vanishing gradients, and updates too large or too small."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from container.debugging.rules.losses import loss_points
from container.debugging.rules.rule import Finding, MissingError, Rule, comes_first, parameter
from container.debugging.tensors import Point, Tensors

_CONVERGED = 0.01
"""A loss below this share of the first: all gradients are small then, and rightly so."""


@dataclass(frozen=True)
class VanishingGradient(Rule):
    """A layer's gradients are so small that it does not learn."""

    illness: ClassVar = "A layer gets almost no gradient, so it does not learn."
    advice: ClassVar = (
        "Use a network with shortcuts and normalisation (the ResNets have both), ReLU instead of "
        "sigmoid or tanh, a better initialisation, or pretrained weights (weights=imagenet)."
    )
    collections: ClassVar = ("gradients",)

    threshold: float = parameter(1e-7, "a mean magnitude below this has vanished")

    def check(self, tensors: Tensors) -> Finding | None:
        """Look at every gradient's mean magnitude, while there is something left to learn."""
        names = tensors.collection("gradients")
        if not names:
            raise MissingError("no gradients were saved")
        found: Finding | None = None
        for name in names:
            mode = tensors.mode_of(name)
            losses = loss_points(tensors, mode)
            for point in tensors.measure(name, "abs_mean", mode):
                vanished = point.value < self.threshold and not _converged(losses, point.step)
                if vanished and comes_first(point.step, found):
                    found = Finding(
                        point.step,
                        {"tensor": name, "abs_mean": point.value, "threshold": self.threshold},
                    )
                    break
        return found


def _converged(losses: list[Point], step: int) -> bool:
    before = [point.value for point in losses if point.step <= step]
    return bool(before) and before[-1] < _CONVERGED * before[0]


@dataclass(frozen=True)
class WeightUpdateRatio(Rule):
    """The weights jump, or do not move."""

    illness: ClassVar = "The weights change too much, or not at all, between two looks at them."
    advice: ClassVar = (
        "Lower the learning rate if the ratio is large; if it is small, raise the learning rate "
        "and check that the layer is trainable."
    )
    collections: ClassVar = ("updates|weights",)

    num_steps: int = parameter(0, "steps between the weights compared; 0: the ones saved before")
    large_threshold: float = parameter(10.0, "a ratio above this is too large")
    small_threshold: float = parameter(1e-8, "a ratio below this is too small")
    epsilon: float = parameter(1e-9, "added to the weights' length, which may be zero")

    def check(self, tensors: Tensors) -> Finding | None:
        """Look at how far each weight moved, as a share of its length."""
        ratios = self.ratios(tensors)
        if not ratios:
            raise MissingError("neither update ratios nor whole weights were saved")
        found: Finding | None = None
        for name, points in ratios.items():
            for point in points:
                wrong = not self.small_threshold <= point.value <= self.large_threshold
                if wrong and comes_first(point.step, found):
                    found = Finding(point.step, {"tensor": name, "ratio": point.value})
        return found

    def ratios(self, tensors: Tensors) -> dict[str, list[Point]]:
        """The ratios of every trainable weight, as saved by Kennel or from the weights."""
        updates = tensors.names("^update/")
        if updates:
            return {
                name.removeprefix("update/"): tensors.measure(name, "mean", tensors.mode_of(name))
                for name in updates
            }
        trainable = trainable_weights(tensors)
        found = {name: self._from_weights(tensors, name) for name in trainable}
        return {name: points for name, points in found.items() if points}

    def _from_weights(self, tensors: Tensors, name: str) -> list[Point]:
        mode = tensors.mode_of(name)
        points: list[Point] = []
        before, step_before = None, 0
        for step in tensors.steps(name, mode):
            if before is not None and self.num_steps and step - step_before < self.num_steps:
                continue
            now = tensors.raw(name, mode, step)
            if now is None:
                continue
            if before is not None:
                moved = float(np.linalg.norm(now - before))
                points.append(Point(step, moved / (float(np.linalg.norm(before)) + self.epsilon)))
            before, step_before = now, step
        return points


def trainable_weights(tensors: Tensors) -> list[str]:
    """The weights that have gradients; where none were saved, all weights."""
    learning = {name.removeprefix("gradient/") for name in tensors.collection("gradients")}
    weights = tensors.collection("weights")
    return [name for name in weights if name in learning] if learning else weights
