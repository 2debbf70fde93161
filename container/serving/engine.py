"""What runs the network: the choice between engines, and the check of their answers."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from container import artifact, processors, resnet
from container.artifact import Facts
from container.errors import UserError
from container.serving.settings import Settings

Images = NDArray[np.uint8]
"""Preprocessed RGB images of shape (n, size, size, 3)."""
Scores = NDArray[np.float32]
"""Logits of shape (n, classes)."""


class Engine(Protocol):
    """A loaded network. Safe to call from many threads; it bounds how many it works for at once."""

    name: str
    """The engine and its arithmetic, for the log and for `/ping`."""
    precision: str
    """One of TOLERANCES."""
    lanes: int
    """How many images are best prepared, or prepared and scored, side by side."""
    batch: int
    """The largest number of images that it gains from scoring at once; 1 if it gains nothing."""

    def scores(self, images: Images, present: int = 1) -> Scores:
        """The network's logits for some images; `present` requests are there, this one included."""
        ...


TOLERANCES: Mapping[str, float] = {"float32": 2e-3, "float16": 2e-2, "bfloat16": 5e-2}
"""How far an engine's logits may be from the reference: this much, and this share of the largest.

Float32 engines agree to about 1e-5 and bfloat16 ones to about 1e-2; a wrong network is off by as
much as its logits are large.
"""


def load(settings: Settings, facts: Facts, weights: dict[str, NDArray[Any]], slot: int) -> Engine:
    """Make the engine and check its answers; `weights` is emptied on the way, to free memory.

    `slot` numbers the worker processes of this server; with several GPUs each takes its own.

    Raises:
        UserError: the weights are not those of the architecture, this machine lacks what the
            settings ask for, or the answers differ from those recorded in training.
    """
    check_weights(facts, weights)
    engine: Engine
    if settings.runs_torch:
        from container.serving.torch_engine import TorchEngine

        engine = TorchEngine(facts, weights, settings.precision, slot)
    else:
        from container.serving.openvino_engine import OpenVinoEngine

        engine = OpenVinoEngine(facts, weights, settings.precision, processors.available())
    check_answers(engine, facts)
    return engine


def check_weights(facts: Facts, weights: Mapping[str, NDArray[Any]]) -> None:
    """Every tensor of the architecture must be there, in its shape. Raises UserError."""
    for name, shape in resnet.layout(facts.architecture).shapes(len(facts.classes)).items():
        if name not in weights:
            raise UserError(
                f"{artifact.WEIGHTS_FILE} is not that of a {facts.architecture}: it has no tensor "
                f"{name}. Copy the whole model directory again."
            )
        tensor = weights[name]
        if tensor.shape != shape or tensor.dtype.kind != "f":
            raise UserError(
                f"{artifact.WEIGHTS_FILE} is not that of a {facts.architecture} with "
                f"{len(facts.classes)} classes: {name} is {tensor.dtype} {tensor.shape}, not "
                f"float {shape}. Copy the whole model directory again."
            )


def check_answers(engine: Engine, facts: Facts) -> None:
    """The engine must repeat the trained network's own answers. Raises UserError."""
    reference = np.asarray(facts.reference_scores, np.float32)
    if reference.shape != (artifact.REFERENCE_IMAGES, len(facts.classes)):
        raise UserError(
            f"{artifact.FACTS_FILE} holds no {artifact.REFERENCE_IMAGES} reference answers to "
            "check the model with. Train the model again."
        )
    scores = engine.scores(artifact.reference_images(facts.preprocessing))
    tolerance = TOLERANCES[engine.precision]
    allowed = tolerance * (1 + np.abs(reference).max())
    difference = np.abs(scores - reference).max()
    # A comparison that NaN fails, so that a network of NaNs is refused too.
    if not difference <= allowed:
        raise UserError(
            f"The engine {engine.name} does not repeat the answers recorded in training: scores "
            f"differ by {difference:.3g}, where {allowed:.3g} is allowed. Set "
            "KENNEL_PRECISION=float32, or train the model again."
        )
