"""Rules on what layers give each other: dead ReLUs, and a start from which nothing is learned."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from container.debugging.records import Array
from container.debugging.rules.losses import loss_points
from container.debugging.rules.rule import Finding, MissingError, Rule, comes_first, parameter
from container.debugging.tensors import Tensors

_NORMAL_SPREAD = 3.29
"""From the 5th to the 95th percentile of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class DeadRelu(Rule):
    """Most of a layer's ReLUs are never above zero."""

    illness: ClassVar = "Most units of a layer give zero for every image, so they cannot learn."
    advice: ClassVar = (
        "Lower the learning rate; use normalisation before the ReLU, or pretrained weights."
    )
    collections: ClassVar = ("relu_activity|relu_output",)

    tensor_regex: str = parameter(r".*relu_(output|activity)", "the outputs of ReLUs")
    threshold_inactivity: float = parameter(1.0, "a unit above zero in fewer percent is inactive")
    threshold_layer: float = parameter(50.0, "percent of inactive units from which on it fires")

    def check(self, tensors: Tensors) -> Finding | None:
        """A unit is a channel where Kennel saved activities, and a neuron of a whole output."""
        found: Finding | None = None
        looked = False
        for name in tensors.names(self.tensor_regex):
            mode = tensors.mode_of(name)
            for step in tensors.steps(name, mode):
                value = tensors.raw(name, mode, step)
                if value is None:
                    continue
                looked = True
                share = self._inactive_percent(name, value)
                if share > self.threshold_layer and comes_first(step, found):
                    found = Finding(step, {"tensor": name, "inactive_percent": round(share, 2)})
                    break
        if not looked:
            raise MissingError("neither activities nor whole outputs of ReLUs were saved")
        return found

    def _inactive_percent(self, name: str, value: Array) -> float:
        active = value if "relu_activity" in name else (value > 0).mean(axis=0)
        return 100 * float(np.mean(100 * active < self.threshold_inactivity))


@dataclass(frozen=True)
class PoorWeightInitialization(Rule):
    """The first steps show that the weights were set badly."""

    illness: ClassVar = "The network starts from weights out of which little can be learned."
    advice: ClassVar = (
        "Use pretrained weights (weights=imagenet) or torchvision's initialisation as it is; in a "
        "network of your own scale each layer's weights to its number of inputs (He, Xavier)."
    )
    collections: ClassVar = ("gradients", "losses")

    activation_inputs_regex: str = parameter(
        r"relu_input|bn\d+_output", "what flows into activations; AWS: .*relu_input"
    )
    threshold: float = parameter(10.0, "the largest of the layers' variances over the smallest")
    distribution_range: float = parameter(0.001, "narrowest 5 to 95 % range of gradients")
    patience: int = parameter(5, "steps for which the loss may stand still")
    steps: int = parameter(10, "how many of the first steps are looked at")

    def check(self, tensors: Tensors) -> Finding | None:
        """Uneven activations alone are a sign; narrow gradients are one if the loss stands."""
        gradients = tensors.collection("gradients")
        activations = tensors.names(self.activation_inputs_regex)
        if not gradients and not activations:
            raise MissingError("neither gradients nor the inputs of activations were saved")
        for step in range(self.steps):
            variances = {
                name: value
                for name in activations
                if (value := tensors.at(name, "variance", tensors.mode_of(name), step)) is not None
            }
            if len(variances) > 1:
                ratio = max(variances.values()) / max(min(variances.values()), 1e-30)
                if ratio > self.threshold:
                    widest = max(variances, key=lambda name: variances[name])
                    narrowest = min(variances, key=lambda name: variances[name])
                    return Finding(
                        step,
                        {"variance_ratio": ratio, "largest": widest, "smallest": narrowest},
                    )
            ranges = [
                value for name in gradients if (value := _range(tensors, name, step)) is not None
            ]
            if ranges and max(ranges) < self.distribution_range and self._stands(tensors):
                return Finding(step, {"gradient_range": max(ranges)})
        return None

    def _stands(self, tensors: Tensors) -> bool:
        """Whether the loss is, after some of its first values, no lower than it was."""
        for mode in ("TRAIN", "GLOBAL"):
            values = [point.value for point in loss_points(tensors, mode)][: self.steps]
            if len(values) > self.patience:
                return min(values[-self.patience :]) > 0.99 * values[0]
        return False


def _range(tensors: Tensors, name: str, step: int) -> float | None:
    mode = tensors.mode_of(name)
    spread = tensors.at(name, "spread", mode, step)
    if spread is None:
        deviation = tensors.at(name, "std", mode, step)
        # Of a single value there is no deviation.
        if deviation is not None and np.isfinite(deviation):
            spread = _NORMAL_SPREAD * deviation
    return spread
