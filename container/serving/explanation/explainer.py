"""Explaining one model's answers: the choice between methods, each loaded when first asked for."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from werkzeug.exceptions import NotImplemented as NotThere
from werkzeug.exceptions import ServiceUnavailable

from container import artifact
from container.artifact import Facts
from container.errors import UserError
from container.serving.engines.engine import Engine
from container.serving.explanation import activations, deadline
from container.serving.explanation.activations import Network, OpenVinoNetwork, Square
from container.serving.explanation.explanation import Explanation
from container.serving.explanation.occlusion import occlusion
from container.serving.explanation.wanted import Method
from container.serving.models import memory
from container.serving.settings import Settings

if TYPE_CHECKING:
    from container.serving.explanation.torch_network import TorchNetwork

Loaded = TypeVar("Loaded")

NEEDED_AGAIN = 2.5
"""Most memory that the network takes again for each byte of weights, measured: 1.6 in bfloat16 and
2.1 to 2.5 in float32, in torch 2.0."""
NEEDED_AGAIN_IN_INT8 = 0.9
"""The same of its int8 form, for each byte of the weights that it was made from: 0.36 once it is
there, and its tensors besides while it is made."""
NEEDED_BY_TORCH = 700 * 2**20
"""What torch and captum take when they are imported: 668 MB with torch's build for CUDA."""


class _Once(Generic[Loaded]):
    """Something that the first who needs it loads, while others wait."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        self._turn = threading.Lock()
        self._loaded: Loaded | None = None

    def get(self) -> Loaded:
        """What was loaded; a load that fails is tried again by the next."""
        with self._turn:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded


class Explainer:
    """Safe to call from many threads. It takes no memory and no time until it is asked."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        facts: Facts,
        served: Engine,
        slot: int,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._facts = facts
        self._served = served
        self._torch = _Once(self._load_torch)
        self._network: _Once[Network] = _Once(
            self._torch.get if settings.runs_torch else self._load_openvino
        )
        self._slot = slot
        # The slow methods keep all processors busy for seconds.
        self._slow = threading.Semaphore(1)

    def explain(self, method: Method, square: Square, index: int | None) -> Explanation:
        """The evidence in what the network sees for a class, or for the winning one.

        Raises:
            HTTPException: 501 for a method that this server does not have, 503 for one that is
                busy or too slow here, or for which memory or the model's files are not there.
        """
        if method == "cam":
            return activations.class_activation_map(self._network.get(), square, index)
        if method == "integrated-gradients" and not self._settings.has_gradients:
            raise NotThere(
                "Integrated gradients need torch, which this server does not load: set "
                "KENNEL_GRADIENTS=on, or ask for explain=cam or explain=occlusion."
            )
        if not self._slow.acquire(blocking=False):
            raise ServiceUnavailable("Another image is being explained; try again.", retry_after=1)
        try:
            if method == "occlusion":
                until = time.monotonic() + deadline.SECONDS
                preprocessing = self._facts.preprocessing
                return occlusion(self._served.scores, square, preprocessing, index, until)
            network = self._torch.get()  # importing torch is not to count
            until = time.monotonic() + deadline.SECONDS
            return network.integrated_gradients(square, index, until)
        finally:
            self._slow.release()

    def _load_openvino(self) -> Network:
        # In the served arithmetic, so that what is explained is what is answered.
        precision, processors = self._served.precision, self._settings.processors
        return self._loaded_again(
            lambda: OpenVinoNetwork(self._directory, self._facts, precision, processors),
            per_weight=NEEDED_AGAIN_IN_INT8 if precision == "int8" else NEEDED_AGAIN,
        )

    def _load_torch(self) -> "TorchNetwork":
        def load() -> "TorchNetwork":
            from container.serving.explanation.torch_network import TorchNetwork

            return TorchNetwork(self._directory, self._facts, self._slot)

        return self._loaded_again(load, besides=0 if "torch" in sys.modules else NEEDED_BY_TORCH)

    def _loaded_again(
        self, load: Callable[[], Loaded], *, per_weight: float = NEEDED_AGAIN, besides: int = 0
    ) -> Loaded:
        """The network once more, where it fits: predictions must not end because somebody asks why.

        Raises:
            ServiceUnavailable: there is not so much memory, or the model's files have changed.
        """
        try:
            self._check_memory(per_weight, besides)
            return load()
        except OSError as error:
            raise ServiceUnavailable(
                f"Explanations need the model's files again, and {self._directory} cannot be read: "
                f"{error.strerror}."
            ) from error
        except UserError as error:
            raise ServiceUnavailable(
                f"Explanations need the model's files again. {error}"
            ) from error

    def _check_memory(self, per_weight: float, besides: int) -> None:
        weights = (self._directory / artifact.WEIGHTS_FILE).stat().st_size
        needed, left = int(weights * per_weight) + besides, memory.available()
        if left is not None and needed > left:
            raise ServiceUnavailable(
                f"Explanations of this model need about {needed // 2**20} MB of memory, and "
                f"{left // 2**20} MB are left; give the container more, or unload another model."
            )
