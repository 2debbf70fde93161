"""The answer where an explanation is asked for: JSON beside the prediction, or a picture."""

import dataclasses
import json
import time
from typing import Any

from werkzeug.exceptions import BadRequest, NotAcceptable

from container.images import ImageError
from container.serving import answer
from container.serving.answer import Form
from container.serving.classifier import Classifier, EncodedOrPixels, softmax
from container.serving.explanation import picture, view
from container.serving.explanation.wanted import Wanted
from container.serving.inputs.items import OUT_OF_TIME, Item, Payload


def body(
    classifier: Classifier, form: Form, wanted: Wanted, given: Payload, deadline: float
) -> str | bytes:
    """Explain every image of a request; those not begun by `deadline` are errors in their place.

    Raises:
        ImageError: the one image cannot be read.
        HTTPException: the explanation cannot be had, or not for these images.
    """
    if wanted.method != "cam" and len(given.items) > 1:
        raise BadRequest(f"explain={wanted.method} takes seconds; send one image in a request.")
    if form.media_type == answer.PNG and given.several:
        raise NotAcceptable(f"{answer.PNG} shows one image; ask for {answer.JSON}.")
    if given.several:
        lines = [_in_place(classifier, form, wanted, item, deadline) for item in given.items]
        if form.media_type == answer.JSON_LINES:
            return "".join(f"{line}\n" for line in lines)
        return f"[{','.join(lines)}]"
    image = _image(given.items[0])
    if form.media_type == answer.PNG:
        index = wanted.index(classifier.facts.classes)
        _, _, explanation = classifier.explain(wanted.method, image, index)
        preprocessing = classifier.facts.preprocessing
        # It decodes the image once more, which may take hundreds of megabytes.
        return classifier.in_turn(lambda: picture.overlay(image, preprocessing, explanation))
    entry = _entry(classifier, form, wanted, image)
    return f"{entry}\n" if form.media_type == answer.JSON_LINES else entry


def _image(item: Item) -> EncodedOrPixels:
    """Raises ImageError."""
    content = item.unpacked()
    if isinstance(content, ImageError):
        raise content
    return content


def _in_place(
    classifier: Classifier, form: Form, wanted: Wanted, item: Item, deadline: float
) -> str:
    """One of several images as a JSON object, which says its name where it has one."""
    try:
        if time.monotonic() > deadline:
            raise ImageError(OUT_OF_TIME)
        entry = _entry(classifier, form, wanted, _image(item))
    except ImageError as error:
        entry = json.dumps({"error": str(error)}, ensure_ascii=False)
    if item.name is None:
        return entry
    return f"{json.dumps({'name': item.name})[:-1]}, {entry[1:]}"


def _entry(classifier: Classifier, form: Form, wanted: Wanted, image: EncodedOrPixels) -> str:
    classes = classifier.facts.classes
    square, size, explanation = classifier.explain(wanted.method, image, wanted.index(classes))
    probabilities = softmax(explanation.scores)
    predictions = answer.entry(form, classes, probabilities)
    width, height = size
    box = view.seen(width, height, classifier.facts.preprocessing)
    index = explanation.index
    content: dict[str, Any] = {
        "method": explanation.method,
        "label": classes[index],
        "probability": float(f"{probabilities[index]:.7g}"),
        "score": _short(explanation.scores[index]),
        "offset": None if explanation.offset is None else _short(explanation.offset),
        "range": [_short(explanation.low), _short(explanation.high)],
        "shape": explanation.cells.shape,
        "map": [[round(cell, 4) for cell in row] for row in explanation.scaled().tolist()],
        "image": {"width": width, "height": height},
        "box": {name: round(value, 2) for name, value in dataclasses.asdict(box).items()},
    }
    if wanted.layer:
        content["layer"] = picture.layer_address(explanation)
    if wanted.thumbnail:
        content["thumbnail"] = picture.thumbnail_address(square, wanted.thumbnail)
    text = json.dumps(content, ensure_ascii=False)
    return f'{{"predictions":{predictions},"explanation":{text}}}'


def _short(value: float) -> float:
    return float(f"{value:.7g}")
