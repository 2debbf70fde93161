"""One invocation, from the bytes of a request to the bytes of its answer; Flask is not needed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from werkzeug.datastructures import MIMEAccept

from container.images import ImageError
from container.serving import answer
from container.serving.classifier import Classifier
from container.serving.explanation import response
from container.serving.inputs import payload
from container.serving.inputs.items import OUT_OF_TIME, Item, Outcome


@dataclass(frozen=True)
class Call:
    """What a client sent. The body is read when it is asked for, after the headers are checked."""

    content_type: str | None
    accept: MIMEAccept
    custom_attributes: str
    read_body: Callable[[], bytes]


@dataclass(frozen=True)
class Reply:
    """What the client gets."""

    body: str | bytes
    media_type: str
    images: int = 1
    """How many images were looked at, for the metrics."""


class Model(Protocol):
    """What answers invocations. Safe to call from many threads."""

    title: str
    """What it is and what runs it, for the log."""
    description: str
    """What runs it, for `/ping`."""

    @property
    def classifier(self) -> Classifier | None:
        """Kennel's own network, where that scores, for the metrics."""
        ...

    def reply(self, call: Call) -> Reply:
        """The answer. Raises werkzeug's HTTPException, ImageError."""
        ...


class Pipeline:
    """Kennel's own model: images in, one probability per class out."""

    def __init__(self, classifier: Classifier, seconds: float) -> None:
        self.classifier = classifier
        self.description = classifier.engine.name
        facts = classifier.facts
        self.title = (
            f"{facts.architecture} with {len(facts.classes)} classes by {classifier.engine.name}"
        )
        self._seconds = seconds

    def reply(self, call: Call) -> Reply:
        """Classify the image or images of a request, in their order."""
        kind = payload.check_content_type(call.content_type)
        form = answer.choose(call.accept, call.custom_attributes, kind.answered_as)
        given = payload.parse(kind, call.read_body())
        if form.explanation:
            explained = response.body(
                self.classifier, form, form.explanation, given, time.monotonic() + self._seconds
            )
            return Reply(explained, form.media_type, len(given.items))
        classes = self.classifier.facts.classes
        if not given.several:
            outcome = predict(self.classifier, given.items[0])
            if isinstance(outcome, ImageError):
                raise outcome
            return Reply(answer.write(form, classes, outcome), form.media_type)
        outcomes = predict_all(self.classifier, given.items, self._seconds)
        names = [item.name for item in given.items]
        text = answer.write_several(form, classes, names, outcomes)
        return Reply(text, form.media_type, len(given.items))


def predict(classifier: Classifier, item: Item) -> Outcome:
    """What one image shows, or why that cannot be said."""
    content = item.unpacked()
    if isinstance(content, ImageError):
        return content
    try:
        return classifier.probabilities(content)
    except ImageError as error:
        return error


def predict_all(classifier: Classifier, items: list[Item], seconds: float) -> list[Outcome]:
    """What each image shows, in order; those that were not begun in time are errors.

    Raises:
        OverloadedError: there is too much to do before the first.
    """
    work = partial(_predict_until, classifier, time.monotonic() + seconds)
    if len(items) == 1:  # it waits for its turn as any other image does, and for no list
        return [work(items[0])]
    return classifier.threads.map(work, items, patience=classifier.patience)


def _predict_until(classifier: Classifier, deadline: float, item: Item) -> Outcome:
    if time.monotonic() > deadline:
        return ImageError(OUT_OF_TIME)
    return predict(classifier, item)
