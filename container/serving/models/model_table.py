"""The models of a multi-model endpoint: loaded, used and unloaded by many threads at once."""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from container import artifact
from container.errors import UserError
from container.serving.classifier import Classifier
from container.serving.engines.engine import give_back_freed_memory
from container.serving.invocation import Model
from container.serving.models import memory, script

FILES = (artifact.FACTS_FILE, artifact.WEIGHTS_FILE, artifact.INT8_FILE, script.FILE)
"""What is read of a model's directory, and must neither be a link that leads out of it nor a pipe,
which would hold whoever opens it."""
PAGE = 100
"""Models in one page of the list."""
NEEDED_BESIDES = 128 * 1024 * 1024
"""Memory that requests need beside the models."""


class ModelTableError(UserError):
    """What the table refuses; a directory that is none, or holds no usable model, by itself."""

    status = 400
    """What SageMaker wants to be answered."""


class NotLoadedError(ModelTableError):
    """There is no model of that name."""

    status = 404


class AlreadyLoadedError(ModelTableError):
    """There is a model of that name."""

    status = 409


class NotEnoughMemoryError(ModelTableError):
    """Another model does not fit."""

    status = 507


@dataclass(frozen=True)
class Entry:
    """One model as it is listed."""

    name: str
    url: str


@dataclass
class _Loaded:
    model: Model
    url: str
    users: int = 0
    unused: threading.Condition = field(default_factory=threading.Condition)

    def wait_until_unused(self) -> None:
        with self.unused:
            self.unused.wait_for(lambda: self.users == 0)


class ModelTable:
    """Every loaded model by its name, in this process alone."""

    def __init__(
        self,
        root: Path,
        load: Callable[[Path], Model],
        needed: Callable[[Path], int],
        available: Callable[[], int | None] = memory.available,
    ) -> None:
        """`load` makes the model in a directory, for which it takes about `needed` bytes."""
        self._root = root
        self._load = load
        self._needed = needed
        self._available = available
        self._models: dict[str, _Loaded] = {}
        self._names_taken: set[str] = set()
        self._lock = threading.Lock()
        # One model loads at a time: what it will take is judged by what is left.
        self._turn = threading.Lock()
        self.seconds = 0.0
        """How long the last model took to load."""

    def __len__(self) -> int:
        return len(self._models)

    def classifiers(self) -> list[Classifier]:
        """Kennel's own networks among the models."""
        with self._lock:
            models = [loaded.model for loaded in self._models.values()]
        return [model.classifier for model in models if model.classifier]

    def load(self, name: str, url: str) -> None:
        """Load the model in a directory; it can be used when this returns.

        Raises:
            AlreadyLoadedError: the name is taken, perhaps by a model that is just loading.
            NotEnoughMemoryError: it would not fit beside the others.
            ModelTableError: a directory outside the models' folder, or no usable model in it.
        """
        with self._lock:
            if name in self._names_taken:
                raise AlreadyLoadedError(f"A model called {name!r} is loaded already.")
            self._names_taken.add(name)
        try:
            directory = self._inside(url)
            with self._turn:
                self._check_memory(directory)
                started = time.monotonic()
                model = self._load(directory)
                self.seconds = time.monotonic() - started
            with self._lock:
                self._models[name] = _Loaded(model, url)
        except BaseException as error:
            with self._lock:
                self._names_taken.discard(name)
            # Its frames hold what was read, and would hold it until the request is answered.
            traceback.clear_frames(error.__traceback__)
            give_back_freed_memory()
            if isinstance(error, MemoryError):
                raise NotEnoughMemoryError(f"Memory ran out while {name!r} was loaded.") from None
            if isinstance(error, UserError) and not isinstance(error, ModelTableError):
                raise ModelTableError(str(error)) from None
            raise

    def unload(self, name: str) -> None:
        """Forget a model: when this returns, those who used it are done and its memory is free.

        Raises:
            NotLoadedError: there is none of that name.
        """
        with self._lock:
            loaded = self._models.pop(name, None)
        if loaded is None:
            raise NotLoadedError(f"No model called {name!r} is loaded.")
        loaded.wait_until_unused()
        del loaded
        give_back_freed_memory()
        # Only now: two models of one name never take memory at the same time.
        with self._lock:
            self._names_taken.discard(name)

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[Model]:
        """A model that stays while it is in use. Raises NotLoadedError."""
        with self._lock:
            loaded = self._get(name)
            with loaded.unused:
                loaded.users += 1
        try:
            yield loaded.model
        finally:
            with loaded.unused:
                loaded.users -= 1
                loaded.unused.notify_all()

    def entry(self, name: str) -> Entry:
        """One model as it is listed. Raises NotLoadedError."""
        with self._lock:
            return Entry(name, self._get(name).url)

    def page(self, token: str = "") -> tuple[list[Entry], str | None]:
        """Models in the order of their names, after the one that the token names, and the token
        of the next page. Models that come and go meanwhile neither repeat nor hide the others.
        """
        with self._lock:
            names = sorted(name for name in self._models if name > token)
            entries = [Entry(name, self._models[name].url) for name in names[:PAGE]]
        return entries, names[PAGE - 1] if len(names) > PAGE else None

    def _get(self, name: str) -> _Loaded:
        if name not in self._models:
            raise NotLoadedError(f"No model called {name!r} is loaded.")
        return self._models[name]

    def _inside(self, url: str) -> Path:
        """The directory, which neither `..` nor a link may lead out of the models' folder."""
        try:
            root = self._root.resolve()
            directory = (self._root / url).resolve()
            for path in (directory, *(directory / name for name in FILES)):
                if root not in path.resolve().parents:
                    raise ModelTableError(
                        f"The model's url must be a directory inside {self._root}."
                    )
                if path.exists() and not path.is_dir() and not path.is_file():
                    raise ModelTableError(f"{path} is no regular file.")
            if not directory.is_dir():
                raise ModelTableError(f"There is no directory {url!r} to load a model from.")
        except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, links in a circle
            raise ModelTableError(f"The url {url[:200]!r} is not a path.") from None
        return directory

    def _check_memory(self, directory: Path) -> None:
        """Refuse before anything is taken. Raises NotEnoughMemoryError."""
        left = self._available()
        with contextlib.suppress(OSError):  # loading says better what is wrong
            needed = self._needed(directory) + NEEDED_BESIDES
            if left is not None and needed > left:
                raise NotEnoughMemoryError(
                    f"The model needs about {needed // 2**20} MB while it loads, and "
                    f"{left // 2**20} MB are left; unload another first."
                )
