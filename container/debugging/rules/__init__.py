"""Kennel's own rules on smdebug's tensors, under AWS's names. NumPy, no torch, no smdebug."""

from container.debugging.rules.activations import DeadRelu, PoorWeightInitialization
from container.debugging.rules.answers import ClassImbalance, Confusion
from container.debugging.rules.course import CheckInputImages, StalledTraining
from container.debugging.rules.gradients import VanishingGradient, WeightUpdateRatio
from container.debugging.rules.losses import LossNotDecreasing, Overfit, Overtraining
from container.debugging.rules.rule import Rule
from container.debugging.rules.values import (
    AllZero,
    ExplodingTensor,
    TensorVariance,
    UnchangedTensor,
)

RULES: tuple[type[Rule], ...] = (
    VanishingGradient,
    ExplodingTensor,
    Overfit,
    Overtraining,
    LossNotDecreasing,
    PoorWeightInitialization,
    DeadRelu,
    WeightUpdateRatio,
    TensorVariance,
    UnchangedTensor,
    AllZero,
    ClassImbalance,
    Confusion,
    CheckInputImages,
    StalledTraining,
)
