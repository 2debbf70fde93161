"""How predictions are written: plain scores or ranked labels, as JSON, JSON lines or CSV."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import BadRequest, NotAcceptable
from werkzeug.http import parse_options_header

from container.images import ImageError
from container.serving.classifier import Probabilities
from container.serving.explanation import wanted
from container.serving.explanation.wanted import Wanted
from container.serving.inputs.items import Outcome

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
PNG = "image/png"
"""The image with the explanation laid over it."""
TEXTS = (JSON, CSV, JSON_LINES)
SYNONYMS = {"application/jsonl": JSON_LINES, "application/x-ndjson": JSON_LINES}
"""What others call JSON lines, in requests and in answers."""


@dataclass(frozen=True)
class Form:
    """The form of an answer that the client asked for."""

    media_type: str
    top: int | None = None
    """How many ranked labels; 0 means all of them; None asks for plain scores."""
    explanation: Wanted | None = None
    """What is to be explained beside the prediction, if anything."""


def choose(
    accepted: MIMEAccept,
    custom_attributes: str,
    usual: str = JSON,
    offered: Sequence[str] = (*TEXTS, PNG),
) -> Form:
    """Read the form from the Accept header and from SageMaker's custom attributes.

    Custom attributes are free text that others use too, so what is not known here is ignored.
    `usual` is the media type where the client has no wish, `offered` are those there are.

    Raises:
        NotAcceptable: none of these media types would do.
        BadRequest: a parameter is not what it must be.
    """
    media_type, parameters = _negotiate(accepted, usual, offered)
    # SageMaker passes at most 1,024 characters; longer ones would cost the pattern time.
    found = re.findall(r"""([\w-]+)\s*=\s*("[^"]*"|[^\s,;]*)""", custom_attributes[:1024])
    options = {name: value.strip('"') for name, value in found} | parameters
    explanation = wanted.read(options, picture=media_type == PNG)
    if explanation and media_type == CSV:
        raise BadRequest(f"An explanation is {JSON}, {JSON_LINES} or {PNG}, not {CSV}.")
    top_k = options.get("top_k")
    if top_k is None:
        top = 0 if wanted.is_true(options, "verbose") else None
        return Form(media_type, top, explanation)
    if not re.fullmatch(r"[0-9]{1,9}", top_k) or int(top_k) == 0:
        raise BadRequest(f"top_k must be a whole number from 1, not {top_k!r}.")
    return Form(media_type, int(top_k), explanation)


def write(form: Form, classes: Sequence[str], outcome: Probabilities) -> str:
    """The answer for a request of one image."""
    if form.media_type == CSV:
        return _csv(_rows(form, classes, outcome))
    return entry(form, classes, outcome) + ("\n" if form.media_type == JSON_LINES else "")


def write_several(
    form: Form, classes: Sequence[str], names: Sequence[str | None], outcomes: Sequence[Outcome]
) -> str:
    """The answer for a request of several images: an entry for each, in order.

    An image that could not be used is `{"error": "..."}` in its place, in CSV a row with nothing
    but the sentence after what the image is called. Images that have names are answered by them.
    """
    if form.media_type == CSV:
        return _csv(
            [*_called(form, name, place), *row]
            for place, (name, outcome) in enumerate(zip(names, outcomes, strict=True))
            for row in _rows(form, classes, outcome)
        )
    entries = [
        entry(form, classes, outcome) if name is None else _named(form, classes, name, outcome)
        for name, outcome in zip(names, outcomes, strict=True)
    ]
    if form.media_type == JSON_LINES:
        return "".join(f"{entry}\n" for entry in entries)
    return f"[{','.join(entries)}]"


def _negotiate(
    accepted: MIMEAccept, usual: str, offered: Sequence[str]
) -> tuple[str, dict[str, str]]:
    """The best of the media types, and the parameters that the client gave it."""
    if not accepted:
        return usual, {}
    parsed = [(*parse_options_header(value), quality) for value, quality in accepted]
    wishes = [
        (SYNONYMS.get(media_type.lower(), media_type.lower()), parameters, quality)
        for media_type, parameters, quality in parsed
    ]
    plain = MIMEAccept([(media_type, quality) for media_type, _, quality in wishes])
    # Of equals the first is taken.
    best = plain.best_match(sorted(offered, key=usual.__ne__))
    if best is None:
        raise NotAcceptable(f"Accept must allow {', '.join(offered[:-1])} or {offered[-1]}.")
    # Its own parameters, or else those of the wildcard that it is one of.
    for asked in (best, f"{best.partition('/')[0]}/*", "*/*"):
        for media_type, parameters, _ in wishes:
            if media_type == asked:
                return best, parameters
    return best, {}


def entry(form: Form, classes: Sequence[str], outcome: Outcome) -> str:
    """One image's answer as JSON."""
    if isinstance(outcome, ImageError):
        return json.dumps({"error": str(outcome)}, ensure_ascii=False)
    if form.top is None:
        return f"[{_numbers(outcome)}]"
    pairs = _ranked(classes, outcome, form.top)
    return json.dumps(
        [{"label": label, "probability": value} for label, value in pairs], ensure_ascii=False
    )


def _named(form: Form, classes: Sequence[str], name: str, outcome: Outcome) -> str:
    """One image's answer as a JSON object that says its name."""
    key = json.dumps({"name": name})[:-1]
    content = entry(form, classes, outcome)
    if isinstance(outcome, ImageError):
        return f"{key}, {content[1:]}"
    return f'{key}, "{"scores" if form.top is None else "predictions"}": {content}}}'


def _rows(form: Form, classes: Sequence[str], outcome: Outcome) -> list[list[str]]:
    """One image's answer as rows of CSV."""
    if isinstance(outcome, ImageError):
        return [["", str(outcome)]] if form.top is not None else [[str(outcome)]]
    if form.top is None:
        return [_numbers(outcome).split(",")]
    return [[label, f"{value:.7g}"] for label, value in _ranked(classes, outcome, form.top)]


def _called(form: Form, name: str | None, place: int) -> list[str]:
    """The first column: the image's name, or its place from 0 where rows do not tell it."""
    if name is not None:
        return [name]
    return [] if form.top is None else [str(place)]


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _numbers(probabilities: Probabilities) -> str:
    """Comma-separated numbers; one formatting operation is several times faster than `json`."""
    return ",".join(["%.7g"] * len(probabilities)) % tuple(probabilities.tolist())


def _ranked(
    classes: Sequence[str], probabilities: Probabilities, top: int
) -> list[tuple[str, float]]:
    """Labels and probabilities, best first; equals stay in the order of the classes."""
    order = np.argsort(-probabilities, kind="stable")[: top or None]
    return [(classes[index], float(f"{probabilities[index]:.7g}")) for index in order]
