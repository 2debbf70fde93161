"""Artifacts with random weights, images and servers for the serving tests; nothing is trained."""

import atexit
import dataclasses
import functools
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image

from container import artifact, resnet
from container.artifact import Facts
from container.images import Preprocessing
from container.serving import classifier, settings
from container.serving.app import create_app
from container.serving.classifier import Classifier
from container.serving.engines.openvino_engine import OpenVinoEngine
from container.serving.invocation import Model, Pipeline
from container.serving.models.loading import Loading

CLASSES = ("plain", "with, comma", 'with "quotes"', "größer", "last")


def random_weights(architecture: str, classes: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Weights whose normalisation statistics are far from their initial zeros and ones."""
    generator = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {}
    for name, shape in resnet.layout(architecture).shapes(classes).items():
        tensor: NDArray[Any]
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


def facts(architecture: str, image_size: int, classes: tuple[str, ...] = CLASSES) -> Facts:
    """Facts that still lack the reference scores and the weights' digest."""
    return Facts(
        architecture=architecture,
        classes=classes,
        preprocessing=Preprocessing.for_image_size(image_size),
        reference_scores=(),
        weights_sha256="",
    )


def write(
    directory: Path,
    architecture: str = "resnet18",
    image_size: int = 32,
    classes: tuple[str, ...] = CLASSES,
    seed: int = 0,
) -> Facts:
    """An artifact. Its reference scores come from OpenVINO in float32, which loads faster than
    torch; test_serving_engines compares the two.
    """
    description = facts(architecture, image_size, classes)
    weights = random_weights(architecture, len(classes), seed)
    engine = OpenVinoEngine(description, dict(weights), "float32", 2)
    scores = engine.scores(artifact.reference_images(description.preprocessing))
    description = dataclasses.replace(
        description, reference_scores=tuple(tuple(map(float, row)) for row in scores)
    )
    artifact.save(directory, weights, description)
    return description


@functools.cache
def loaded() -> Classifier:
    """One small model for all tests that do not change it."""
    base = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, base)  # explanations read the weights again
    write(Path(base) / "model")
    return classifier.load(settings.parse({}), 0, Path(base) / "model")


def pipeline(model: Classifier | None = None) -> Model:
    """What answers invocations with a network, of `loaded()` unless another is given."""
    return Pipeline(model or loaded(), seconds=60)


def client(model: Classifier | None = None, **environment: str) -> FlaskClient:
    """A client of an application whose model is there; of `loaded()` unless another is given."""
    return serving_client(pipeline(model), **environment)


def serving_client(present: Model, **environment: str) -> FlaskClient:
    """A client of an application that serves this."""
    loading = Loading(lambda: present, lambda error: None)
    loading.model = present
    return create_app(loading, settings.parse(environment)).test_client()


def photograph(seed: int = 0, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Smooth random colours, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    """The bytes that numpy.save writes."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
