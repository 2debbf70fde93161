"""The artifact: `model.safetensors` (weights) and `model.json` (facts). No pickle, no torch.

Training writes it, serving reads it. The facts open in any editor; loading runs no code.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors_numpy

from container.atomic import write_atomically
from container.errors import UserError
from container.hyperparameters import RESNETS
from container.images import Preprocessing

FORMAT = "kennel/1"
WEIGHTS_FILE = "model.safetensors"
FACTS_FILE = "model.json"
INT8_FILE = "int8.safetensors"
REFERENCE_IMAGES = 2

Weights = Mapping[str, NDArray[Any]]
"""Tensors under torchvision's names, such as `layer1.0.conv1.weight`."""


@dataclass(frozen=True)
class Int8:
    """What was measured of the network's int8 form, whose tensors are in INT8_FILE."""

    accuracy: float
    """Share of the validation images that int8 gets right."""
    float_accuracy: float
    """The same of the network as it was trained, on the same images."""
    images: int
    reference_scores: tuple[tuple[float, ...], ...]
    """The int8 form's own answers for `reference_images`."""
    sha256: str = ""


@dataclass(frozen=True)
class Facts:
    """All that `model.json` says about the weights beside it."""

    architecture: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    reference_scores: tuple[tuple[float, ...], ...]
    """The trained network's own answers for `reference_images`, which every engine must repeat."""
    weights_sha256: str
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    int8: Int8 | None = None
    """None where int8 loses too much, or was not tried."""


def reference_images(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The fixed images on which engines are checked, (REFERENCE_IMAGES, size, size, 3)."""
    generator = np.random.Generator(np.random.PCG64(20_260_101))
    coarse = generator.integers(0, 256, (REFERENCE_IMAGES, 8, 8, 3), dtype=np.uint8)
    return np.stack([preprocessing.from_pixels(image) for image in coarse])


def save(
    directory: Path, weights: Weights, facts: Facts, int8_weights: Weights | None = None
) -> None:
    """Write the artifact; a reader sees the old one or the whole new one, never a part."""
    directory.mkdir(parents=True, exist_ok=True)
    data = safetensors_numpy.save(dict(weights), metadata={"format": "pt"})
    facts = dataclasses.replace(facts, weights_sha256=hashlib.sha256(data).hexdigest())
    if facts.int8 is not None and int8_weights is not None:
        int8_data = safetensors_numpy.save(dict(int8_weights))
        digest = hashlib.sha256(int8_data).hexdigest()
        facts = dataclasses.replace(facts, int8=dataclasses.replace(facts.int8, sha256=digest))
        write_atomically(directory / INT8_FILE, int8_data)
    text = json.dumps({"format": FORMAT, **dataclasses.asdict(facts)}, indent=2, ensure_ascii=False)
    # The facts name the weights' digest, so they go last: a kill in between is noticed at loading.
    write_atomically(directory / WEIGHTS_FILE, data)
    write_atomically(directory / FACTS_FILE, text.encode())
    if facts.int8 is None:
        (directory / INT8_FILE).unlink(missing_ok=True)


def load(directory: Path) -> tuple[Facts, Weights]:
    """Read and check the artifact.

    Raises:
        UserError: no artifact here, or one that is damaged, partial or of another kind.
    """
    facts = load_facts(directory)
    return facts, load_weights(directory, facts)


def load_weights(directory: Path, facts: Facts) -> Weights:
    """The weights that belong to the facts. Raises UserError."""
    return _tensors(directory / WEIGHTS_FILE, facts.weights_sha256)


def load_int8(directory: Path, recorded: Int8) -> Weights:
    """The tensors of the int8 form. Raises UserError."""
    return _tensors(directory / INT8_FILE, recorded.sha256)


def _tensors(path: Path, sha256: str) -> Weights:
    try:
        digest = _sha256(path)
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read: {error.strerror}.") from None
    if digest != sha256:
        raise UserError(
            f"{path} does not belong to {FACTS_FILE} beside it, or is damaged: its SHA-256 differs "
            "from the one recorded in training. Copy the whole model directory again."
        )
    try:
        # Tensor by tensor: a server answers pings meanwhile, and memory holds the weights once.
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}.") from None
    except (AttributeError, TypeError) as error:  # bfloat16 and others that NumPy does not have
        raise UserError(
            f"{path} holds tensors of a kind that NumPy does not know: {error}. Save them as "
            "float32."
        ) from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_facts(directory: Path) -> Facts:
    """Read and check `model.json` alone. Raises UserError."""
    path = directory / FACTS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"There is no model in {directory}: {FACTS_FILE} is missing. "
            "Train one first, or mount the directory that training wrote."
        ) from None
    except (OSError, ValueError, RecursionError) as error:  # the last of brackets in brackets
        raise UserError(f"{path} cannot be read: {error}.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} was not written by this program: its format is not {FORMAT!r}.")
    try:
        return _checked(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}.") from None


def _checked(content: dict[str, Any]) -> Facts:
    preprocessing = content["preprocessing"]
    facts = Facts(
        architecture=str(content["architecture"]),
        classes=tuple(str(name) for name in content["classes"]),
        preprocessing=Preprocessing(
            image_size=int(preprocessing["image_size"]),
            resize_size=int(preprocessing["resize_size"]),
            mean=_three(preprocessing["mean"]),
            std=_three(preprocessing["std"]),
        ),
        reference_scores=_scores(content["reference_scores"]),
        weights_sha256=str(content["weights_sha256"]),
        **{
            name: dict(content[name]) for name in ("hyperparameters", "metrics", "versions", "data")
        },
        int8=_int8(content.get("int8")),
    )
    if facts.architecture not in RESNETS:
        raise ValueError(f"unknown architecture {facts.architecture!r}")
    if not 0 < facts.preprocessing.image_size <= facts.preprocessing.resize_size <= 4096:
        raise ValueError("impossible image size")
    if len(facts.classes) < 2 or any(
        len(scores) != len(facts.classes) for scores in facts.reference_scores
    ):
        raise ValueError("the classes do not fit the reference scores")
    return facts


def _int8(content: dict[str, Any] | None) -> Int8 | None:
    if content is None:
        return None
    return Int8(
        accuracy=float(content["accuracy"]),
        float_accuracy=float(content["float_accuracy"]),
        images=int(content["images"]),
        reference_scores=_scores(content["reference_scores"]),
        sha256=str(content["sha256"]),
    )


def _scores(rows: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(score) for score in scores) for scores in rows)


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
