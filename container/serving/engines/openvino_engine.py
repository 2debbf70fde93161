"""Run a ResNet on the CPU with OpenVINO, built straight from the artifact's arrays. No torch."""

import queue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.artifact import Facts
from container.images import Pixels
from container.openvino_resnet import Weights, arithmetic, build_model, compile_model
from container.serving.engines.engine import Images, Scores
from container.serving.settings import Precision

PROCESSORS_PER_IMAGE = 4
"""One image keeps about this many busy; with more, several images run side by side."""


class OpenVinoEngine:
    """The network compiled twice: few requests share the processors, many have one each.

    Alone, a request is answered soonest by all processors together. Under load an image on one
    processor loses nothing to synchronisation, and as many are answered as there are processors.
    """

    batch = 1
    """On a CPU larger batches gain little, and would be compiled anew for each size."""

    def __init__(
        self, facts: Facts, weights: Weights, precision: Precision, processors: int
    ) -> None:
        # While every processor computes, another request is decoded: one never waits for the other.
        self.lanes = processors + 1
        self._classes = len(facts.classes)
        model = build_model(facts.architecture, facts.preprocessing, weights, batch=1, head=True)
        self._pools: dict[int, queue.SimpleQueue[_Request]] = {}
        for streams in sorted({max(1, processors // PROCESSORS_PER_IMAGE), processors}):
            compiled = compile_model(
                model, precision=precision, threads=processors, streams=streams
            )
            self._pools[streams] = queue.SimpleQueue()
            for _ in range(streams):
                self._pools[streams].put(_Request(compiled))
        self.precision = "int8" if precision == "int8" else arithmetic(compiled)
        self.name = f"openvino {self.precision}"

    def scores(self, images: Images, present: int = 1) -> Scores:
        """The network's logits, one image at a time; waits for a free stream."""
        fitting = (pool for streams, pool in self._pools.items() if streams >= present)
        pool = next(fitting, self._pools[max(self._pools)])
        scores = np.empty((len(images), self._classes), np.float32)
        request = pool.get()
        try:
            for image, row in zip(images, scores, strict=True):
                request.score(image, row)
        finally:
            pool.put(request)
        return scores


class _Request:
    """One stream of a compiled network. Its tensors stay where they are, and are looked up once."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._input = self._request.get_input_tensor().data[0]
        self._output = self._request.get_output_tensor().data[0]

    def score(self, image: Pixels, into: NDArray[np.float32]) -> None:
        """Write one image's logits; releases the GIL."""
        self._input[:] = image
        self._request.infer(share_outputs=True)
        into[:] = self._output
