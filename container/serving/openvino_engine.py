"""Run a ResNet on the CPU with OpenVINO, built straight from the artifact's arrays. No torch."""

import queue
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.artifact import Facts
from container.errors import UserError
from container.resnet import Block, Convolution, layout
from container.serving.engine import Images, Scores
from container.serving.settings import Precision

NORM_EPSILON = 1e-5
"""torchvision's batch normalisation adds it to the variance."""
PROCESSORS_PER_STREAM = 4
"""One image keeps about this many busy; with more, several images run side by side."""

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


class OpenVinoEngine:
    """A compiled network and the inference requests that threads borrow."""

    def __init__(
        self, facts: Facts, weights: Weights, precision: Precision, processors: int
    ) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        options: dict[str, Any] = {
            # Pinned threads of two streams, or of two processes, end up on the same processor.
            # https://github.com/openvinotoolkit/openvino/issues/32444
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": processors,
            "NUM_STREAMS": max(1, processors // PROCESSORS_PER_STREAM),
        }
        if precision == "bfloat16" and "BF16" not in core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            raise UserError(
                "KENNEL_PRECISION is bfloat16, which this processor does not have; use auto."
            )
        if precision != "auto":
            # Without the hint OpenVINO takes bfloat16 where the processor is fast at it.
            options["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[precision]
        compiled = core.compile_model(_Graph(openvino, facts, weights).model(), "CPU", options)
        arithmetic = compiled.get_property("INFERENCE_PRECISION_HINT").to_dtype()
        self.precision = "float32" if arithmetic == np.float32 else "bfloat16"
        self.name = f"openvino {self.precision}"
        self._classes = len(facts.classes)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
            self._requests.put(compiled.create_infer_request())

    def scores(self, images: Images) -> Scores:
        """The network's logits; waits for a free stream. One image at a time, since on a CPU
        larger batches gain little and would be compiled anew for each size.
        """
        scores = np.empty((len(images), self._classes), np.float32)
        request = self._requests.get()
        try:
            for image, row in zip(images, scores, strict=True):
                request.get_input_tensor().data[0] = image
                request.infer()  # releases the GIL
                row[:] = request.get_output_tensor().data[0]
        finally:
            self._requests.put(request)
        return scores


class _Graph:
    """The network as OpenVINO operators, its batch normalisations folded into its convolutions."""

    def __init__(self, openvino: Any, facts: Facts, weights: Weights) -> None:
        self._openvino = openvino
        self._ops = openvino.opset13
        self._facts = facts
        self._weights = weights

    def model(self) -> Any:
        """From uint8 (1, size, size, 3) to logits (1, classes)."""
        ops = self._ops
        network = layout(self._facts.architecture)
        size = self._facts.preprocessing.image_size
        image = ops.parameter([1, size, size, 3], np.uint8)
        mean = 255 * np.array(self._facts.preprocessing.mean, np.float32)
        centred = ops.subtract(ops.convert(image, np.float32), self._constant(mean))
        data = ops.transpose(centred, np.array([0, 3, 1, 2]))
        # Dividing the first convolution's weights divides its input.
        std = 255 * np.array(self._facts.preprocessing.std, np.float32)
        self._weights["conv1.weight"] = self._weights["conv1.weight"] / std.reshape(1, 3, 1, 1)
        data = ops.relu(self._convolution(data, network.stem))
        data = ops.max_pool(data, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
        for block in network.blocks:
            data = self._block(data, block)
        features = ops.reduce_mean(data, np.array([2, 3]))
        head = self._constant(self._weights.pop("fc.weight"))
        bias = self._constant(self._weights.pop("fc.bias"))
        scores = ops.add(ops.matmul(features, head, False, True), bias)
        return self._openvino.Model([scores], [image], self._facts.architecture)

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
