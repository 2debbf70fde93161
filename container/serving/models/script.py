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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from werkzeug.exceptions import (
    BadRequest,
    NotAcceptable,
    ServiceUnavailable,
    UnsupportedMediaType,
)
from werkzeug.exceptions import NotImplemented as NotThere

from container.errors import UserError
from container.images import ImageError
from container.serving import answer
from container.serving.answer import Form
from container.serving.classifier import Classifier
from container.serving.inputs import payload
from container.serving.inputs.items import OUT_OF_TIME, Item, Payload
from container.serving.inputs.payload import ContentType
from container.serving.invocation import Call, Reply, predict_all

FILE = "code/inference.py"
FUNCTIONS = ("model_fn", "input_fn", "predict_fn", "output_fn")
NO_IMAGES = "The request holds no image; send at least one."
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

    @property
    def classifier(self) -> Classifier | None:
        """Kennel's own network, where the script has no other."""
        return self._model if isinstance(self._model, Classifier) else None

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
            HTTPException: what Kennel does in place of the script refuses the request.
        """
        kind = None if "input_fn" in self._own else payload.check_content_type(call.content_type)
        form = None if "output_fn" in self._own else _form(call, kind)
        given = self._input(call, kind)
        prediction = self._prediction(given)
        if form is None:
            return self._output(prediction, call)
        return self._written(form, prediction, given)

    def _input(self, call: Call, kind: ContentType | None) -> Any:
        if kind is not None:
            return _all_usable(payload.parse(kind, call.read_body()))
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
        if not items:
            raise BadRequest(NO_IMAGES)
        probabilities = []
        for outcome in predict_all(self._model, items, self._seconds):
            if isinstance(outcome, ImageError):
                raise ServiceUnavailable(OUT_OF_TIME) if str(outcome) == OUT_OF_TIME else outcome
            probabilities.append(outcome)
        several = given.several if isinstance(given, Payload) else isinstance(given, list)
        return np.stack(probabilities) if several else probabilities[0]

    def _output(self, prediction: Any, call: Call) -> Reply:
        accept = call.accept.best if call.accept and call.accept.best != "*/*" else answer.JSON
        try:
            made = self._call("output_fn", prediction, accept)
        except ValueError as error:
            raise NotAcceptable(f"The model's output_fn says: {error}") from error
        body, media_type = made if isinstance(made, tuple) else (made, accept)
        return Reply(body, media_type)

    def _written(self, form: Form, prediction: Any, given: Any) -> Reply:
        """The answer as Kennel writes it: with an entry for each image where there are several."""
        several = isinstance(given, Payload) and given.several
        names = [item.name for item in given.items] if several else []
        classes = self._model.facts.classes if isinstance(self._model, Classifier) else None
        dimensions = (2,) if several else (1, 2)
        if classes is None or not _are_scores(prediction, len(classes), dimensions):
            return _plain(form, prediction, names)
        if prediction.ndim == 1:
            return Reply(answer.write(form, classes, prediction), form.media_type)
        if len(names) != len(prediction):
            names = [None] * len(prediction)
        text = answer.write_several(form, classes, names, list(prediction))
        return Reply(text, form.media_type, len(prediction))

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


def _form(call: Call, kind: ContentType | None) -> Form:
    """The form in which Kennel writes what the script leaves it to write.

    Raises:
        NotAcceptable, NotImplemented: a picture or an explanation is asked for: Kennel can explain
            its own answers, and not a script's.
    """
    usual = kind.answered_as if kind else answer.JSON
    form = answer.choose(call.accept, call.custom_attributes, usual, answer.TEXTS)
    if form.explanation:
        raise NotThere("This model answers with its own script, and cannot be explained.")
    return form


def _are_scores(prediction: Any, classes: int, dimensions: Sequence[int]) -> bool:
    """Whether what a script predicts is a number for each class, as Kennel's own answers are."""
    return (
        isinstance(prediction, np.ndarray)
        and prediction.dtype.kind == "f"
        and prediction.ndim in dimensions
        and prediction.shape[-1] == classes
    )


def _plain(form: Form, prediction: Any, names: Sequence[str | None]) -> Reply:
    """What are no probabilities, as JSON; a list is of entries where it has one for each image."""
    content = prediction.tolist() if hasattr(prediction, "tolist") else prediction
    if names and isinstance(content, list) and len(content) == len(names):
        entries = [
            json.dumps(entry if name is None else {"name": name, "prediction": entry})
            for name, entry in zip(names, content, strict=True)
        ]
        document = f"[{', '.join(entries)}]"
    else:
        document = json.dumps(content)
        entries = [document]
    if form.media_type == answer.JSON_LINES:
        text = "".join(f"{entry}\n" for entry in entries)
        return Reply(text, answer.JSON_LINES, len(entries))
    return Reply(document, answer.JSON, len(entries))


def _all_usable(given: Payload) -> Payload:
    """The same, for a script, which sees all images of a request or none. Raises ImageError."""
    if not given.items:
        raise BadRequest(NO_IMAGES)
    for item in given.items:
        if isinstance(item.content, ImageError):
            raise item.content
    return given


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
