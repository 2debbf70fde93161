"""The loaded model: from an image in a request to one probability per class."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from werkzeug.exceptions import NotImplemented as NotThere

from container import artifact
from container.artifact import Facts
from container.images import Pixels, Size
from container.serving.engines import engine
from container.serving.engines.batcher import Batcher
from container.serving.engines.engine import Engine, Scores
from container.serving.engines.turns import Turns
from container.serving.explanation.activations import Square
from container.serving.explanation.explainer import Explainer
from container.serving.explanation.explanation import Explanation
from container.serving.explanation.wanted import Method
from container.serving.fair_threads import FairThreads, fair_threads
from container.serving.settings import Settings

EncodedOrPixels = bytes | Pixels
"""An image as the client sent it: a file's bytes, or an array (height, width, 3)."""
Probabilities = NDArray[np.float32]
"""One number per class, in the order of the classes; they add up to 1."""

Decoded = TypeVar("Decoded")


class Classifier:
    """A network that has repeated its reference answers. Safe to call from many threads."""

    def __init__(
        self,
        facts: Facts,
        network: Engine,
        *,
        limit: int,
        patience: float,
        threads: FairThreads,
        explainer: Explainer | None = None,
    ) -> None:
        """At most `limit` images wait for a turn, and none longer than `patience` seconds."""
        self.facts = facts
        self.engine = network
        self.threads = threads
        """For requests of several images; other models may have the same."""
        self._explainer = explainer
        # A decoded image may take hundreds of megabytes, whatever the size of its file.
        self._turns = Turns(network.lanes, limit=limit, patience=patience)
        self._batcher = Batcher(network, patience=patience) if network.batch > 1 else None

    @property
    def patience(self) -> float:
        """Seconds that an image waits for its turn at most."""
        return self._turns.patience

    @property
    def running(self) -> int:
        """Images that are being prepared or scored, but for those in a batch."""
        return self._turns.running

    @property
    def waiting(self) -> int:
        """Images that wait to be prepared, or for a batch."""
        return self._turns.waiting + (self._batcher.waiting if self._batcher else 0)

    @property
    def batches(self) -> Mapping[int, int]:
        """How many batches there were so far of each number of images."""
        return self._batcher.batches if self._batcher else {1: self._turns.given}

    def probabilities(self, image: EncodedOrPixels) -> Probabilities:
        """What the image shows. Raises ImageError, OverloadedError."""
        with self._turns:
            square = self._square(image)
            if self._batcher is None:
                # The lane that prepared the image scores it: its processor has nothing better
                # to do, and the image is still in its cache.
                scores = self.engine.scores(square[np.newaxis], self._turns.present)
        if self._batcher is not None:
            scores = self._batcher.scores([square])
        return softmax(scores[0])

    def explain(
        self, method: Method, image: EncodedOrPixels, index: int | None
    ) -> tuple[Square, Size, Explanation]:
        """What the network sees, of an image of what size, and the evidence in it for a class, or
        for the winning one.

        Raises:
            ImageError: the image cannot be read.
            HTTPException: too busy, or this server does not explain in this way.
        """
        if self._explainer is None:
            raise NotThere("This model's answers cannot be explained.")
        with self._turns:
            square, size = self._square_and_size(image)
            if method == "cam":  # one pass through the network, as a prediction is
                return square, size, self._explainer.explain(method, square, index)
        return square, size, self._explainer.explain(method, square, index)

    def _square(self, image: EncodedOrPixels) -> Pixels:
        preprocessing = self.facts.preprocessing
        if isinstance(image, bytes):
            return preprocessing(image)
        return preprocessing.from_pixels(image)

    def _square_and_size(self, image: EncodedOrPixels) -> tuple[Pixels, Size]:
        preprocessing = self.facts.preprocessing
        if isinstance(image, bytes):
            return preprocessing.with_size(image)
        return preprocessing.from_pixels(image), (image.shape[1], image.shape[0])

    def in_turn(self, decode: Callable[[], Decoded]) -> Decoded:
        """Decode an image in some other way, when its turn has come. Raises OverloadedError."""
        with self._turns:
            return decode()


def softmax(scores: Scores) -> Probabilities:
    """One image's logits as probabilities."""
    exponentials = np.exp(scores - np.maximum.reduce(scores))
    probabilities: Probabilities = exponentials / np.add.reduce(exponentials)
    return probabilities


def load(settings: Settings, slot: int, directory: Path | None = None) -> Classifier:
    """Read an artifact, by default the server's own, and check that the engine repeats its answers.

    `slot` numbers the worker processes of this server; with several GPUs each takes its own.

    Raises:
        UserError: the artifact cannot be used, or not on this machine.
    """
    place = directory or settings.model_dir
    facts = artifact.load_facts(place)
    network = engine.load(settings, place, facts, slot)
    explainer = Explainer(settings, place, facts, network, slot)
    return Classifier(
        facts,
        network,
        limit=settings.threads,
        patience=settings.patience,
        threads=fair_threads(settings.processors),
        explainer=explainer,
    )
