"""Run a ResNet on the CPU with OpenVINO, built straight from the artifact's arrays. No torch."""

import queue
from typing import Any

import numpy as np

from container.artifact import Facts
from container.openvino_resnet import Weights, arithmetic, build_model, compile_model
from container.serving.engine import Images, Scores
from container.serving.settings import Precision

PROCESSORS_PER_STREAM = 4
"""One image keeps about this many busy; with more, several images run side by side."""


class OpenVinoEngine:
    """A compiled network and the inference requests that threads borrow."""

    def __init__(
        self, facts: Facts, weights: Weights, precision: Precision, processors: int
    ) -> None:
        model = build_model(facts.architecture, facts.preprocessing, weights, batch=1, head=True)
        compiled = compile_model(
            model,
            precision=precision,
            threads=processors,
            streams=max(1, processors // PROCESSORS_PER_STREAM),
        )
        self.precision = arithmetic(compiled)
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
