"""Searches with names: those of five earlier projects on photographs of dogs in 133 breeds."""

import difflib
from dataclasses import dataclass

from container.errors import UserError
from container.metrics import TEST_LOSS, VALIDATION_ACCURACY, Metric


@dataclass(frozen=True)
class Recipe:
    """One search."""

    name: str
    meaning: str
    ranges: tuple[str, ...]
    fixed: tuple[str, ...]
    objective: Metric = VALIDATION_ACCURACY


RECIPES = (
    Recipe(
        "quick",
        "ResNet-18, few epochs, least loss on the test images",
        ("lr=0.001:0.1:log", "batch-size=32,64,128", "epochs=2:4"),
        ("arch=resnet18",),
        TEST_LOSS,
    ),
    Recipe(
        "adam",
        "ResNet-50, the optimizer's own numbers",
        ("lr=0.0001:0.1:log", "eps=1e-9:1e-8:log", "batch-size=64,128,256"),
        ("arch=resnet50", "optimizer=adamw"),
    ),
    Recipe(
        "small-batches",
        "ResNet-18, batches from 8 to 128, up to ten epochs",
        ("lr=0.001:0.1:log", "batch-size=8,16,32,64,128", "epochs=2:10"),
        ("arch=resnet18",),
    ),
    Recipe(
        "batches",
        "ResNet-50, batch sizes for training and for evaluation",
        (
            "lr=0.001:0.1:log",
            "batch-size=64,128,256",
            "epochs=2,4,6",
            "test-batch-size=15,30,73",
        ),
        ("arch=resnet50",),
    ),
)


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises UserError."""
    found = next((entry for entry in RECIPES if entry.name == name), None)
    if found:
        return found
    names = [entry.name for entry in RECIPES]
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(names)}."
    raise UserError(f"There is no recipe {name!r}; {hint}")
