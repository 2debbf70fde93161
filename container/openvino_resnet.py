"""A ResNet as an OpenVINO model, built straight from torchvision's tensors. No torch.

Serving runs the whole network; training runs a frozen backbone to compute features.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container import int8
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
    to the last one's activations (batch, height, width, channels). The weights are torchvision's,
    or those of the int8 form, and are used up: tensors leave the dict.
    """
    return _Graph(weights).model(architecture, preprocessing, batch, head=head, stages=stages)


def compile_model(model: Any, *, precision: str, threads: int, streams: int) -> Any:
    """Compile for this processor; `precision` is auto, float32, bfloat16 or int8.

    Quantized operators compute in int8 in any case, and int8 leaves the others' choice to OpenVINO.

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
    if precision not in ("auto", "int8"):
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
        data = ops.transpose(self._point(centred, int8.INPUT), np.array([0, 3, 1, 2]))
        if not self._is_int8(network.stem.name):
            # Dividing the first convolution's weights divides its input.
            std = 255 * np.array(preprocessing.std, np.float32)
            self._weights["conv1.weight"] = self._weights["conv1.weight"] / std.reshape(1, 3, 1, 1)
        data = self._activated(data, network.stem)
        data = ops.max_pool(data, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
        for block in network.stages(stages):
            data = self._block(data, block)
        if stages < 4:
            activations = ops.transpose(data, np.array([0, 2, 3, 1]))
            return self._openvino.Model([activations], [image], architecture)
        features = self._point(ops.reduce_mean(data, np.array([2, 3])), int8.FEATURES)
        if not head:
            return self._openvino.Model([features], [image], architecture)
        kernel = (
            self._int8_kernel("fc")
            if self._is_int8("fc")
            else self._constant(self._weights.pop("fc.weight"))
        )
        bias = self._weights.pop("fc.bias").reshape(1, -1)
        products = ops.matmul(features, kernel, False, True)
        products.set_friendly_name(int8.product("fc"))
        scores = ops.add(products, self._constant(bias))
        scores.set_friendly_name("fc")
        return self._openvino.Model([scores], [image], architecture)

    def _block(self, data: Any, block: Block) -> Any:
        ops = self._ops
        shortcut = self._convolution(data, block.shortcut) if block.shortcut else data
        for convolution in block.convolutions[:-1]:
            data = self._activated(data, convolution)
        last = block.convolutions[-1]
        added = ops.add(self._convolution(data, last), shortcut)
        return self._point(ops.relu(added), int8.after_sum(last.name))

    def _activated(self, data: Any, convolution: Convolution) -> Any:
        activated = self._ops.relu(self._convolution(data, convolution))
        return self._point(activated, int8.after_activation(convolution.name))

    def _convolution(self, data: Any, convolution: Convolution) -> Any:
        if self._is_int8(convolution.name):
            kernel: Any = self._int8_kernel(convolution.name)
            bias = self._weights.pop(f"{convolution.name}.bias")
        else:
            folded, bias = self._folded(convolution)
            kernel = self._constant(folded)
        strides, pads = [convolution.stride] * 2, [convolution.padding] * 2
        products = self._ops.convolution(data, kernel, strides, pads, pads, [1, 1])
        products.set_friendly_name(int8.product(convolution.name))
        return self._point(self._ops.add(products, self._constant(bias)), convolution.name)

    def _folded(self, convolution: Convolution) -> tuple[NDArray[Any], NDArray[Any]]:
        """The convolution's weights and the bias that its normalisation leaves."""
        kernel = self._weights.pop(f"{convolution.name}.weight").astype(np.float32)
        gamma, beta, mean, variance = (
            self._weights.pop(f"{convolution.norm}.{part}").astype(np.float32)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + NORM_EPSILON)
        kernel *= scale.reshape(-1, 1, 1, 1)
        return kernel, (beta - mean * scale).reshape(1, -1, 1, 1)

    def _is_int8(self, layer: str) -> bool:
        return f"{layer}.scale" in self._weights

    def _int8_kernel(self, layer: str) -> Any:
        levels = self._openvino.op.Constant(
            np.ascontiguousarray(self._weights.pop(f"{layer}.weight")), shared_memory=True
        )
        scale = self._constant(self._weights.pop(f"{layer}.scale"))
        return self._ops.multiply(self._ops.convert(levels, np.float32), scale)

    def _point(self, node: Any, name: str) -> Any:
        """Name a node, by which its range is found; where there is one, its values are rounded."""
        node.set_friendly_name(name)
        if f"{name}.range" not in self._weights:
            return node
        low, high = map(self._constant, self._weights.pop(f"{name}.range").reshape(2))
        return self._ops.fake_quantize(node, low, high, low, high, 256)

    def _constant(self, values: NDArray[Any]) -> Any:
        # The arrays are the graph's alone, so it keeps them instead of a copy.
        return self._openvino.op.Constant(
            np.ascontiguousarray(values, np.float32), shared_memory=True
        )
