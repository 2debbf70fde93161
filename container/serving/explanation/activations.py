"""Class activation maps: the last convolution's activations, weighted as the head weighs them.

A ResNet's head is linear and sees only the mean of each channel, so this map is no estimate: its
mean plus the head's bias is the class's score. Zhou et al., 2016, https://arxiv.org/abs/1512.04150
"""

import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from container import artifact
from container.artifact import Facts
from container.errors import UserError
from container.openvino_resnet import Weights, build_model, compile_model, import_openvino
from container.serving.engines.engine import Scores, check_weights, int8_weights
from container.serving.explanation.explanation import Explanation, winner

Square = NDArray[np.uint8]
"""What the network sees of an image, (size, size, 3)."""
Activations = NDArray[np.float32]
"""What the last convolution makes of it, (channels, rows, columns)."""


class Network(Protocol):
    """A network that shows its last activations. Safe to call from many threads."""

    kernel: NDArray[np.float32]
    """The head's weights, (classes, channels)."""
    bias: NDArray[np.float32]
    """The head's bias, (classes,)."""

    def activations(self, square: Square) -> tuple[Scores, Activations]:
        """The logits of one image, (classes,), and the activations that they come from."""
        ...


def class_activation_map(network: Network, square: Square, index: int | None) -> Explanation:
    """The map of a class, or of the winning one; it costs one pass through the network."""
    scores, activations = network.activations(square)
    chosen = winner(scores, index)
    cells = np.tensordot(network.kernel[chosen], activations, 1)
    return Explanation("cam", scores, chosen, cells, float(network.bias[chosen]))


class OpenVinoNetwork:
    """The same network compiled once more, with its activations as a second output.

    It is a model of its own because handing the activations out costs plain predictions 4 %. In
    int8 its features are rounded before the head, so that the map adds up to the score but for
    that rounding.
    """

    def __init__(self, directory: Path, facts: Facts, precision: str, processors: int) -> None:
        """`precision` is the one that the served network computes in."""
        if precision == "int8" and facts.int8 is not None:
            _check_same(directory, facts)
            weights = int8_weights(directory, facts, facts.int8)
        else:
            weights = weights_again(directory, facts)
        kernel = weights["fc.weight"].astype(np.float32)
        self.kernel = kernel * weights["fc.scale"] if "fc.scale" in weights else kernel
        self.bias: NDArray[np.float32] = weights["fc.bias"].astype(np.float32).reshape(-1)
        model = build_model(facts.architecture, facts.preprocessing, weights, batch=1, head=True)
        compiled = compile_model(
            _with_activations(model),
            precision=precision,
            threads=processors,
            streams=1,
        )
        self._request = compiled.create_infer_request()
        self._turn = threading.Lock()

    def activations(self, square: Square) -> tuple[Scores, Activations]:
        """One image at a time, by all processors of this process."""
        with self._turn:
            self._request.get_input_tensor().data[0] = square
            self._request.infer()  # releases the GIL
            scores = self._request.get_output_tensor(0).data[0].copy()
            return scores, self._request.get_output_tensor(1).data[0].copy()


def weights_again(directory: Path, facts: Facts) -> Weights:
    """The weights of the model that is being served. Raises UserError where they have changed."""
    _check_same(directory, facts)
    weights = dict(artifact.load_weights(directory, facts))
    check_weights(facts, weights)
    return weights


def _check_same(directory: Path, facts: Facts) -> None:
    """Raises UserError."""
    if artifact.load_facts(directory).weights_sha256 != facts.weights_sha256:
        raise UserError(f"The model in {directory} is not the one that is served any more.")


def _with_activations(model: Any) -> Any:
    """The model with what its head takes the mean of as a second output."""
    (mean,) = (op for op in model.get_ordered_ops() if op.get_type_name() == "ReduceMean")
    outputs = [model.outputs[0].get_node().input_value(0), mean.input_value(0)]
    return import_openvino().Model(outputs, model.get_parameters(), model.get_name())
