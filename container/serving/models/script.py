"""The script seam: a model's own `code/inference.py`, as SageMaker's PyTorch containers know it.

Its functions `model_fn`, `input_fn`, `predict_fn` and `output_fn` are all optional; Kennel does
what they leave out. The script is somebody's code and may do whatever this server may, so it runs
only where KENNEL_SCRIPT says so.
"""

import contextlib
import importlib.util
import inspect
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from werkzeug.exceptions import NotAcceptable, UnsupportedMediaType

from container.errors import UserError
from container.images import ImageError
from container.serving import answer
from container.serving.classifier import Classifier
from container.serving.inputs import payload
from container.serving.inputs.items import Item, Payload
from container.serving.invocation import Call, Reply, predict_all

FILE = "code/inference.py"
FUNCTIONS = ("model_fn", "input_fn", "predict_fn", "output_fn")
_importing = threading.Lock()


class Script:
    """A model whose answers are made, in part or in whole, by functions of its own."""

    def __init__(
        self, directory: Path, classifier: Callable[[], Classifier], seconds: float
    ) -> None:
        """Import the script and let it load its model; `classifier` loads Kennel's own.

        Raises:
            UserError: the script cannot be imported or has none of the functions, or its
                `model_fn` failed.
        """
        path = directory / FILE
        with _modules_of(directory):
            module = _imported(path)
            self._own = {name: getattr(module, name) for name in FUNCTIONS if hasattr(module, name)}
            if not self._own:
                raise UserError(f"{path} defines none of {', '.join(FUNCTIONS)}.")
            if "model_fn" in self._own:
                self._model: Any = self._made(directory)
        if "model_fn" not in self._own:
            self._model = classifier()
        self._seconds = seconds
        self.description = self.title = f"{FILE} ({', '.join(self._own)})"

    def _made(self, directory: Path) -> Any:
        """The model that the script's own model_fn makes."""
        try:
            return self._call("model_fn", str(directory))
        except Exception as error:
            raise UserError(
                f"model_fn in {directory / FILE} failed: {type(error).__name__}: {error}"
            ) from error

    def reply(self, call: Call) -> Reply:
        """input_fn, predict_fn, output_fn.

        Raises:
            UnsupportedMediaType, NotAcceptable: where the script says so by a ValueError.
        """
        given = self._input(call)
        prediction = self._prediction(given)
        return self._output(prediction, given, call)

    def _input(self, call: Call) -> Any:
        if "input_fn" not in self._own:
            return payload.parse(payload.check_content_type(call.content_type), call.read_body())
        try:
            return self._call("input_fn", call.read_body(), call.content_type or "")
        except ValueError as error:  # what SageMaker's documents have it raise
            raise UnsupportedMediaType(f"The model's input_fn says: {error}") from error

    def _prediction(self, given: Any) -> Any:
        if "predict_fn" in self._own:
            return self._call("predict_fn", given, self._model)
        if not isinstance(self._model, Classifier):
            return _unless_it_exits("The model that model_fn returned", self._model, given)
        items = given.items if isinstance(given, Payload) else _items(given)
        outcomes = predict_all(self._model, items, self._seconds)
        probabilities = []
        for outcome in outcomes:
            if isinstance(outcome, ImageError):
                raise outcome
            probabilities.append(outcome)
        several = given.several if isinstance(given, Payload) else isinstance(given, list)
        return np.stack(probabilities) if several else probabilities[0]

    def _output(self, prediction: Any, given: Any, call: Call) -> Reply:
        accept = call.accept.best if call.accept and call.accept.best != "*/*" else answer.JSON
        if "output_fn" in self._own:
            try:
                made = self._call("output_fn", prediction, accept)
            except ValueError as error:
                raise NotAcceptable(f"The model's output_fn says: {error}") from error
            body, media_type = made if isinstance(made, tuple) else (made, accept)
            return Reply(body, media_type)
        if isinstance(self._model, Classifier) and isinstance(prediction, np.ndarray):
            form = answer.choose(call.accept, call.custom_attributes)
            classes = self._model.facts.classes
            if prediction.ndim == 1:
                return Reply(answer.write(form, classes, prediction), form.media_type)
            names = [None] * len(prediction)
            text = answer.write_several(form, classes, names, list(prediction))
            return Reply(text, form.media_type, len(prediction))
        plain = prediction.tolist() if hasattr(prediction, "tolist") else prediction
        return Reply(json.dumps(plain), answer.JSON)

    def _call(self, name: str, *arguments: Any) -> Any:
        """A function of the script, with the `context` that newer scripts take and may ignore."""
        function = self._own[name]
        parameters = inspect.signature(function).parameters
        context = [None] if len(parameters) > len(arguments) else []
        return _unless_it_exits(name, function, *arguments, *context)


def _unless_it_exits(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the script returns; sys.exit() in it must not end the server's thread."""
    try:
        return function(*arguments)
    except SystemExit as error:
        raise RuntimeError(f"{name} called sys.exit({error.code!r})") from error


def _items(given: Any) -> list[Item]:
    """What input_fn gave, as images: encoded bytes, an array, or a list of these."""
    if isinstance(given, np.ndarray) and given.ndim == 4:
        given = list(given)
    entries = given if isinstance(given, list) else [given]
    for entry in entries:
        array = isinstance(entry, np.ndarray) and entry.ndim == 3 and entry.dtype == np.uint8
        if not array and not isinstance(entry, bytes):
            raise TypeError(
                "input_fn must return the bytes of an image, a uint8 array of shape (height, "
                "width, 3) or (n, height, width, 3), or a list of these; Kennel's own model "
                "takes nothing else"
            )
    return [Item(entry) for entry in entries]


@contextlib.contextmanager
def _modules_of(directory: Path) -> Iterator[None]:
    """The script finds the modules beside it while it is imported and while its `model_fn` runs.

    Then their names are free again: another model, or this one's next version, may have modules of
    the same names. The script keeps those that it has imported.
    """
    folder = str((directory / FILE).parent)
    with _importing:
        before = set(sys.modules)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # the script has removed it
                sys.path.remove(folder)
            # What the folder holds may be another when it is next looked at.
            sys.path_importer_cache.pop(folder, None)
            root = directory.resolve()
            for name, module in list(sys.modules.items()):
                if name not in before and _lies_in(root, module):
                    sys.modules.pop(name, None)


def _lies_in(root: Path, module: ModuleType) -> bool:
    """Whether a module is read from there; a package may have folders in place of a file."""
    known = getattr(module, "__dict__", {})  # modules that load lazily stay as they are
    places = [known["__file__"]] if known.get("__file__") else known.get("__path__", ())
    return any(Path(place).resolve().is_relative_to(root) for place in places)


def _imported(path: Path) -> ModuleType:
    """The script as a module of its own name, so that several models have several scripts."""
    name = f"kennel_script_{abs(hash(path))}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None or not path.is_file():
        raise UserError(f"KENNEL_SCRIPT is on, and there is no {path}.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look there for the module that they are in
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} failed: {type(error).__name__}: {error}") from error
    return module
