"""How predictions are written: plain scores or ranked labels, as JSON or as CSV."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import BadRequest, NotAcceptable
from werkzeug.http import parse_options_header

from container.serving.classifier import Probabilities

JSON = "application/json"
CSV = "text/csv"
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass(frozen=True)
class Form:
    """The form of an answer that the client asked for."""

    media_type: str
    top: int | None = None
    """How many ranked labels; 0 means all of them; None asks for plain scores."""


def choose(accepted: MIMEAccept, custom_attributes: str) -> Form:
    """Read the form from the Accept header and from SageMaker's custom attributes.

    Custom attributes are free text that others use too, so what is not known here is ignored.

    Raises:
        NotAcceptable: neither JSON nor CSV would do.
        BadRequest: `verbose` or `top_k` is not what it must be.
    """
    media_type, parameters = _negotiate(accepted)
    # SageMaker passes at most 1,024 characters; longer ones would cost the pattern time.
    options = dict(re.findall(r"([\w-]+)\s*=\s*([^\s,;]*)", custom_attributes[:1024])) | parameters
    top_k = options.get("top_k")
    if top_k is None:
        return Form(media_type, 0 if _is_true(options.get("verbose", "false")) else None)
    if not re.fullmatch(r"[0-9]{1,9}", top_k) or int(top_k) == 0:
        raise BadRequest(f"top_k must be a whole number from 1, not {top_k!r}.")
    return Form(media_type, int(top_k))


def write(
    form: Form, classes: Sequence[str], predictions: Sequence[Probabilities], *, several: bool
) -> str:
    """The body of the answer, with one entry or line per image where there are several."""
    if form.top is None:
        rows = [_numbers(probabilities) for probabilities in predictions]
        if form.media_type == CSV:
            return "".join(f"{row}\n" for row in rows)
        arrays = [f"[{row}]" for row in rows]
        return f"[{','.join(arrays)}]" if several else arrays[0]
    ranked = [_ranked(classes, probabilities, form.top) for probabilities in predictions]
    if form.media_type == CSV:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows((label, f"{value:.7g}") for pairs in ranked for label, value in pairs)
        return text.getvalue()
    entries = [
        [{"label": label, "probability": value} for label, value in pairs] for pairs in ranked
    ]
    return json.dumps(entries if several else entries[0], ensure_ascii=False)


def _negotiate(accepted: MIMEAccept) -> tuple[str, dict[str, str]]:
    """The best of our media types, and the parameters that the client gave it."""
    if not accepted:
        return JSON, {}
    parsed = [(*parse_options_header(value), quality) for value, quality in accepted]
    plain = MIMEAccept([(media_type, quality) for media_type, _, quality in parsed])
    best = plain.best_match([JSON, CSV])
    if best is None:
        raise NotAcceptable(f"Accept must allow {JSON} or {CSV}.")
    given = (parameters for media_type, parameters, _ in parsed if media_type.lower() == best)
    return best, next(given, {})


def _is_true(value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise BadRequest(f"verbose must be true or false, not {value!r}.")


def _numbers(probabilities: Probabilities) -> str:
    """Comma-separated numbers; one formatting operation is several times faster than `json`."""
    return ",".join(["%.7g"] * len(probabilities)) % tuple(probabilities.tolist())


def _ranked(
    classes: Sequence[str], probabilities: Probabilities, top: int
) -> list[tuple[str, float]]:
    """Labels and probabilities, best first; equals stay in the order of the classes."""
    order = np.argsort(-probabilities, kind="stable")[: top or None]
    return [(classes[index], float(f"{probabilities[index]:.7g}")) for index in order]
