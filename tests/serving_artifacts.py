"""Artifacts with random weights for the serving tests, made without training."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container import artifact, resnet
from container.artifact import Facts
from container.images import Preprocessing


def random_weights(architecture: str, classes: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Weights whose normalisation statistics are far from their initial zeros and ones."""
    generator = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {}
    for name, shape in resnet.layout(architecture).shapes(classes).items():
        if name.endswith("running_var"):
            tensor = generator.uniform(0.5, 2, shape)
        elif len(shape) == 4:
            spread = np.sqrt(2 / np.prod(shape[1:]))
            tensor = generator.standard_normal(shape, np.float32) * np.float32(spread)
        elif name.endswith("weight") and len(shape) == 1:
            tensor = generator.uniform(0.3, 1, shape)
        else:
            tensor = generator.normal(0, 0.1, shape)
        weights[name] = tensor.astype(np.float32)
    return weights


def facts(architecture: str, classes: int, image_size: int) -> Facts:
    """Facts that still lack the reference scores and the weights' digest."""
    return Facts(
        architecture=architecture,
        classes=tuple(f"class {number}" for number in range(classes)),
        preprocessing=Preprocessing.for_image_size(image_size),
        reference_scores=(),
        weights_sha256="",
    )


def write(
    directory: Path,
    architecture: str = "resnet18",
    classes: int = 5,
    image_size: int = 32,
    seed: int = 0,
) -> Facts:
    """An artifact whose reference scores come from OpenVINO in float32, which loads faster than
    torch; test_serving_engines compares OpenVINO with torch.
    """
    from container.serving.openvino_engine import OpenVinoEngine

    description = facts(architecture, classes, image_size)
    weights = random_weights(architecture, classes, seed)
    engine = OpenVinoEngine(description, dict(weights), "float32", 2)
    scores = engine.scores(artifact.reference_images(description.preprocessing))
    description = dataclasses.replace(
        description, reference_scores=tuple(tuple(map(float, row)) for row in scores)
    )
    artifact.save(directory, weights, description)
    return description
