"""Kennel's own rules on smdebug's tensors, under AWS's names. NumPy, no torch, no smdebug."""

import difflib
from collections.abc import Mapping

from container.debugging.rules.activations import DeadRelu, PoorWeightInitialization
from container.debugging.rules.answers import ClassImbalance, Confusion
from container.debugging.rules.course import CheckInputImages, StalledTraining
from container.debugging.rules.gradients import VanishingGradient, WeightUpdateRatio
from container.debugging.rules.losses import LossNotDecreasing, Overfit, Overtraining
from container.debugging.rules.rule import Rule, with_parameters
from container.debugging.rules.values import (
    AllZero,
    ExplodingTensor,
    TensorVariance,
    UnchangedTensor,
)
from container.errors import UserError

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


def find(name: str) -> type[Rule]:
    """The rule of a name, as AWS writes it or in snake_case. Raises UserError."""
    wanted = name.replace("_", "").replace("-", "").lower().removesuffix("rule")
    known = {kind.__name__.lower(): kind for kind in RULES}
    if wanted in known:
        return known[wanted]
    nearest = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean {known[nearest[0]].__name__!r}?" if nearest else "see --help."
    raise UserError(f"There is no rule {name!r}; {hint}")


def create(name: str, parameters: Mapping[str, str]) -> Rule:
    """A rule by its name, with some parameters set from text. Raises UserError."""
    return with_parameters(find(name), parameters)
