"""What runs the network: the choice between engines, and the check of their answers."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from container import allocation, artifact, int8, openvino_resnet, resnet
from container.artifact import Facts, Int8
from container.errors import UserError
from container.serving.models import memory
from container.serving.settings import Settings

log = logging.getLogger(__name__)

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


TOLERANCES: Mapping[str, float] = {
    "float32": 2e-3,
    "float16": 2e-2,
    "bfloat16": 5e-2,
    "int8": 5e-2,
}
"""How far an engine's logits may be from the reference: this much, and this share of the largest.

Float32 engines agree to about 1e-5 and bfloat16 ones to about 1e-2; a wrong network is off by as
much as its logits are large. The int8 form has reference answers of its own.
"""


def allowed_difference(scores: Scores, precision: str) -> float:
    """How far an engine of this precision may be from these scores."""
    return TOLERANCES[precision] * (1 + float(np.abs(scores).max()))


NEEDED_PER_WEIGHT: Mapping[str, float] = {"float32": 3.7, "bfloat16": 2.9, "int8": 1.4}
"""Most memory that loading takes for each byte of float32 weights, which are compiled twice.

Measured with ResNet-18, -50 and -152: 3.2 to 3.7 times as much in float32, 2.2 to 2.9 times in
bfloat16, 1.0 to 1.4 times in int8.
"""


def memory_needed(settings: Settings, directory: Path) -> int:
    """About the most bytes of memory that `load` takes at once, in the arithmetic it will choose.

    Raises:
        OSError: there are no weights.
    """
    size = (directory / artifact.WEIGHTS_FILE).stat().st_size
    try:
        arithmetic = _arithmetic(settings, artifact.load_facts(directory))
    except UserError:  # a script may have weights of its own
        arithmetic = "float32"
    return int(size * NEEDED_PER_WEIGHT[arithmetic])


def _arithmetic(settings: Settings, facts: Facts) -> str:
    if settings.runs_torch:
        return "float32"  # as it is read, before the device has it in another form
    if settings.precision in ("auto", "int8") and facts.int8 is not None:
        return "int8"
    return openvino_resnet.arithmetic_of(settings.precision)


def load(settings: Settings, directory: Path, facts: Facts, slot: int) -> Engine:
    """Read the weights, make the engine and check its answers.

    `slot` numbers the worker processes of this server; with several GPUs each takes its own.

    Raises:
        UserError: the weights are not those of the architecture, this machine lacks what the
            settings ask for, or the answers differ from those recorded in training.
        MemoryError: among other models, without its int8 form, which was refused, it does not fit.
    """
    if settings.runs_torch:
        if settings.precision == "int8":
            raise UserError("int8 is OpenVINO's; set KENNEL_ENGINE=openvino, or another precision.")
        from container.serving.engines.torch_engine import TorchEngine

        weights = _weights(directory, facts)
        engine: Engine = TorchEngine(facts, weights, settings.precision, slot, settings.processors)
        check_answers(engine, facts.reference_scores, facts)
        return engine
    if settings.precision in ("auto", "int8") and facts.int8 is not None:
        try:
            return _int8_engine(settings, directory, facts, facts.int8)
        except UserError as error:
            if settings.precision == "int8":
                raise
            log.warning("%s Going on without int8.", error)
        _check_memory_again(settings, directory)
    if settings.precision == "int8":
        raise UserError(
            "This model has no int8 form: it lost too much, or was not measured. Set "
            "KENNEL_PRECISION=auto, or train with another int8-loss."
        )
    from container.serving.engines.openvino_engine import OpenVinoEngine

    weights = _weights(directory, facts)
    engine = OpenVinoEngine(facts, weights, settings.precision, settings.processors)
    check_answers(engine, facts.reference_scores, facts)
    return engine


def _check_memory_again(settings: Settings, directory: Path) -> None:
    """Other models must not end for one that takes more than was foretold. Raises MemoryError."""
    if not settings.multi_model:
        return
    give_back_freed_memory()
    size, left = (directory / artifact.WEIGHTS_FILE).stat().st_size, memory.available()
    arithmetic = openvino_resnet.arithmetic_of(settings.precision)
    if left is not None and size * NEEDED_PER_WEIGHT[arithmetic] > left:
        raise MemoryError(f"{directory} does not fit without its int8 form.")


def give_back_freed_memory() -> None:
    """Return to the system, and to the device, what unloaded models had."""
    allocation.give_back_freed_memory()
    if "torch" in sys.modules:
        from container.serving.engines import cuda_graphs

        cuda_graphs.give_back_freed_memory()


def _weights(directory: Path, facts: Facts) -> dict[str, NDArray[Any]]:
    # A dict of its own, which the engine empties: each tensor is freed once it has its own form.
    weights = dict(artifact.load_weights(directory, facts))
    check_weights(facts, weights)
    return weights


def _int8_engine(settings: Settings, directory: Path, facts: Facts, recorded: Int8) -> Engine:
    from container.serving.engines.openvino_engine import OpenVinoEngine

    weights = int8_weights(directory, facts, recorded)
    engine = OpenVinoEngine(facts, weights, "int8", settings.processors)
    check_answers(engine, recorded.reference_scores, facts)
    return engine


def int8_weights(directory: Path, facts: Facts, recorded: Int8) -> dict[str, NDArray[Any]]:
    """The tensors of the int8 form, which fit the architecture. Raises UserError."""
    weights = dict(artifact.load_int8(directory, recorded))
    int8.check(facts.architecture, len(facts.classes), weights)
    return weights


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


def check_answers(engine: Engine, recorded: tuple[tuple[float, ...], ...], facts: Facts) -> None:
    """The engine must repeat the answers recorded in training. Raises UserError."""
    reference = np.asarray(recorded, np.float32)
    if reference.shape != (artifact.REFERENCE_IMAGES, len(facts.classes)):
        raise UserError(
            f"{artifact.FACTS_FILE} holds no {artifact.REFERENCE_IMAGES} reference answers to "
            "check the model with. Train the model again."
        )
    images = artifact.reference_images(facts.preprocessing)
    allowed = allowed_difference(reference, engine.precision)
    # Alone and under load an engine may use different forms of the network; of the second, which
    # runs on one processor, one image says enough.
    scores = np.concatenate([engine.scores(images), engine.scores(images[:1], engine.lanes)])
    difference = np.abs(scores - np.concatenate([reference, reference[:1]])).max()
    # A comparison that NaN fails, so that a network of NaNs is refused too.
    if not difference <= allowed:
        raise UserError(
            f"The engine {engine.name} does not repeat the answers recorded in training: scores "
            f"differ by {difference:.3g}, where {allowed:.3g} is allowed. Set "
            "KENNEL_PRECISION=float32, or train the model again."
        )
