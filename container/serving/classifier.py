"""The loaded model: from an image in a request to one probability per class."""

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from container import artifact, processors
from container.artifact import Facts
from container.images import Pixels
from container.serving import engine
from container.serving.engine import Engine
from container.serving.settings import Settings

EncodedOrPixels = bytes | Pixels
"""An image as the client sent it: a file's bytes, or an array (height, width, 3)."""
Probabilities = NDArray[np.float32]
"""One number per class, in the order of the classes; they add up to 1."""


class Classifier:
    """A network that has repeated its reference answers. Safe to call from many threads."""

    def __init__(self, facts: Facts, network: Engine, decoders: int) -> None:
        self.facts = facts
        self.engine = network
        # A decoded image may take hundreds of megabytes, whatever the size of its file.
        self._decoding = threading.BoundedSemaphore(decoders)

    def probabilities(self, image: EncodedOrPixels) -> Probabilities:
        """What the image shows. Raises ImageError."""
        preprocessing = self.facts.preprocessing
        with self._decoding:
            if isinstance(image, bytes):
                square = preprocessing(image)
            else:
                square = preprocessing.from_pixels(image)
        scores = self.engine.scores(square[np.newaxis])[0]
        exponentials = np.exp(scores - scores.max())
        probabilities: Probabilities = exponentials / exponentials.sum()
        return probabilities


def load(settings: Settings, slot: int, directory: Path | None = None) -> Classifier:
    """Read an artifact, by default the server's own, and check that the engine repeats its answers.

    `slot` numbers the worker processes of this server; with several GPUs each takes its own.

    Raises:
        UserError: the artifact cannot be used, or not on this machine.
    """
    facts, tensors = artifact.load(directory or settings.model_dir)
    weights = dict(tensors)
    del tensors  # the engine frees each tensor once it has its own form of it
    return Classifier(facts, engine.load(settings, facts, weights, slot), processors.available())
