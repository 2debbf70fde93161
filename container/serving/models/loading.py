"""A model that a background thread loads, so that pings are answered meanwhile."""

import threading
import time
from collections.abc import Callable

from container.serving.classifier import Classifier
from container.serving.invocation import Model, Pipeline


class Loading:
    """The one model of a server, once it is there."""

    def __init__(
        self,
        load: Callable[[], Model],
        on_failure: Callable[[BaseException], None],
        on_loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self.model: Model | None = None
        """None until the model has given its first right answers."""
        self.seconds = 0.0
        """How long it took to load."""
        self._load = load
        self._on_failure = on_failure
        self._on_loaded = on_loaded
        # Not a daemon: a process that ends while native code compiles in a thread may crash.
        self._thread = threading.Thread(target=self._run, name="model-loader", daemon=False)

    @property
    def classifier(self) -> Classifier | None:
        """Kennel's own network, once it is loaded and where no script has taken its place."""
        return self.model.classifier if isinstance(self.model, Pipeline) else None

    def classifiers(self) -> list[Classifier]:
        """Kennel's own network, also where a script asks it, for those who count."""
        found = self.model.classifier if self.model else None
        return [found] if found else []

    def __len__(self) -> int:
        return int(self.model is not None)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the model is loaded or has failed to load."""
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        try:
            model = self._load()
        except BaseException as error:  # whatever it is, the server must not wait for ever
            self._on_failure(error)
            return
        self.seconds = time.monotonic() - started
        self.model = model
        self._on_loaded()
