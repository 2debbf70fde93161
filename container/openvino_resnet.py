"""A ResNet as an OpenVINO model, built straight from torchvision's tensors. No torch.

Serving runs the whole network; training runs a frozen backbone to compute features.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.errors import UserError
from container.images import Preprocessing
from container.resnet import Block, Convolution, layout

NORM_EPSILON = 1e-5
"""torchvision's batch normalisation adds it to the variance."""

Weights = dict[str, NDArray[Any]]


def import_openvino() -> Any:
    """OpenVINO's runtime without its conversion tools, which it can do without.

    Importing those tools writes to the home directory, reports the start to OpenVINO's makers over
    the network, and takes longer than the runtime itself.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino.tools"] = None  # type: ignore[assignment]  # makes the import fail
        try:
            import openvino
        finally:
            del sys.modules["openvino.tools"]
    import openvino

    return openvino


def build_model(
    architecture: str,
    preprocessing: Preprocessing,
    weights: Weights,
    *,
    batch: int,
    head: bool,
    stages: int = 4,
) -> Any:
    """From uint8 (batch, size, size, 3) to logits (batch, classes).

    Without the head, to the averaged features (batch, channels); with fewer than all four stages,
    to the last one's activations (batch, height, width, channels). The weights are used up:
    tensors leave the dict.
    """
    return _Graph(weights).model(architecture, preprocessing, batch, head=head, stages=stages)


def compile_model(model: Any, *, precision: str, threads: int, streams: int) -> Any:
    """Compile for this processor; `precision` is auto, float32 or bfloat16.

    Raises:
        UserError: bfloat16 on a processor that does not have it.
    """
    core = import_openvino().Core()
    options: dict[str, Any] = {
        # Pinned threads of two streams, or of two processes, end up on the same processor.
        # https://github.com/openvinotoolkit/openvino/issues/32444
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
    }
    if precision == "bfloat16" and "BF16" not in core.get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    ):
        raise UserError("This processor has no bfloat16; set the precision to auto or float32.")
    if precision != "auto":
        # Without the hint OpenVINO takes bfloat16 where the processor is fast at it.
        options["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[precision]
    return core.compile_model(model, "CPU", options)


def arithmetic(compiled: Any) -> str:
    """The precision that a compiled model computes in: float32 or bfloat16."""
    return _name_of(compiled.get_property("INFERENCE_PRECISION_HINT"))


def arithmetic_of(precision: str) -> str:
    """The precision that a model will compute in when it is compiled with this one."""
    if precision != "auto":
        return precision
    return _name_of(import_openvino().Core().get_property("CPU", "INFERENCE_PRECISION_HINT"))


def _name_of(hint: Any) -> str:
    return "float32" if hint.to_dtype() == np.float32 else "bfloat16"


class _Graph:
    """The network as OpenVINO operators, its batch normalisations folded into its convolutions."""

    def __init__(self, weights: Weights) -> None:
        self._openvino = import_openvino()
        self._ops = self._openvino.opset13
        self._weights = weights

    def model(
        self,
        architecture: str,
        preprocessing: Preprocessing,
        batch: int,
        *,
        head: bool,
        stages: int,
    ) -> Any:
        ops = self._ops
        network = layout(architecture)
        size = preprocessing.image_size
        image = ops.parameter([batch, size, size, 3], np.uint8)
        mean = 255 * np.array(preprocessing.mean, np.float32)
        centred = ops.subtract(ops.convert(image, np.float32), self._constant(mean))
        data = ops.transpose(centred, np.array([0, 3, 1, 2]))
        # Dividing the first convolution's weights divides its input.
        std = 255 * np.array(preprocessing.std, np.float32)
        self._weights["conv1.weight"] = self._weights["conv1.weight"] / std.reshape(1, 3, 1, 1)
        data = ops.relu(self._convolution(data, network.stem))
        data = ops.max_pool(data, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
        for block in network.stages(stages):
            data = self._block(data, block)
        if stages < 4:
            activations = ops.transpose(data, np.array([0, 2, 3, 1]))
            return self._openvino.Model([activations], [image], architecture)
        features = ops.reduce_mean(data, np.array([2, 3]))
        if not head:
            return self._openvino.Model([features], [image], architecture)
        kernel = self._constant(self._weights.pop("fc.weight"))
        bias = self._constant(self._weights.pop("fc.bias"))
        scores = ops.add(ops.matmul(features, kernel, False, True), bias)
        return self._openvino.Model([scores], [image], architecture)

    def _block(self, data: Any, block: Block) -> Any:
        ops = self._ops
        shortcut = self._convolution(data, block.shortcut) if block.shortcut else data
        for convolution in block.convolutions[:-1]:
            data = ops.relu(self._convolution(data, convolution))
        data = self._convolution(data, block.convolutions[-1])
        return ops.relu(ops.add(data, shortcut))

    def _convolution(self, data: Any, convolution: Convolution) -> Any:
        kernel = self._weights.pop(f"{convolution.name}.weight").astype(np.float32)
        gamma, beta, mean, variance = (
            self._weights.pop(f"{convolution.norm}.{part}").astype(np.float32)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + NORM_EPSILON)
        kernel *= scale.reshape(-1, 1, 1, 1)
        bias = (beta - mean * scale).reshape(1, -1, 1, 1)
        strides, pads = [convolution.stride] * 2, [convolution.padding] * 2
        folded = self._ops.convolution(data, self._constant(kernel), strides, pads, pads, [1, 1])
        return self._ops.add(folded, self._constant(bias))

    def _constant(self, values: NDArray[Any]) -> Any:
        # The arrays are the graph's alone, so it keeps them instead of a copy.
        return self._openvino.op.Constant(
            np.ascontiguousarray(values, np.float32), shared_memory=True
        )
