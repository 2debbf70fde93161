"""The loaded model: from an image in a request to one probability per class."""

import threading
from collections.abc import Callable

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


def load(settings: Settings, slot: int) -> Classifier:
    """Read the artifact and check that the engine repeats its reference answers.

    `slot` numbers the worker processes of this server; with several GPUs each takes its own.

    Raises:
        UserError: the artifact cannot be used, or not on this machine.
    """
    facts, tensors = artifact.load(settings.model_dir)
    weights = dict(tensors)
    del tensors  # the engine frees each tensor once it has its own form of it
    return Classifier(facts, engine.load(settings, facts, weights, slot), processors.available())


class Loading:
    """A model that a background thread loads, so that pings are answered meanwhile."""

    def __init__(
        self, load: Callable[[], Classifier], on_failure: Callable[[Exception], None]
    ) -> None:
        self.classifier: Classifier | None = None
        """None until the model has given its first right answers."""
        self._load = load
        self._on_failure = on_failure
        # Not a daemon: a process that ends while native code compiles in a thread may crash.
        self._thread = threading.Thread(target=self._run, name="model-loader", daemon=False)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the model is loaded or has failed to load."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self.classifier = self._load()
        except Exception as error:
            self._on_failure(error)
