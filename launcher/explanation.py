"""Asking an endpoint why: for every image its answer, and where in the image the evidence lies."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.exceptions import ClientError

from container.errors import UserError
from launcher import prediction, refusals

METHODS = ("cam", "occlusion", "integrated-gradients")
THUMBNAIL = 176
"""Pixels of a picture's side on the page."""
AT_ONCE = 4
"""Requests under way at a time."""
_DATA = "data:image/"


@dataclass(frozen=True)
class Evidence:
    """Where the evidence for a class lies: a transparent picture to lay over the image."""

    label: str
    probability: float
    layer: str
    """A `data:` address."""


@dataclass(frozen=True)
class Explained:
    """What an endpoint says about one image, and why."""

    path: Path
    predictions: tuple[tuple[str, float], ...]
    """All classes with their probabilities, best first; none where the image was refused."""
    evidence: Evidence | None = None
    """For the answer, or for the class that was asked about."""
    thumbnail: str = ""
    """What the network saw of the image, as a `data:` address."""
    truth_evidence: Evidence | None = None
    """For the class that the folder names, where the answer is another."""
    refusal: str = ""

    @property
    def truth(self) -> str | None:
        """The class that the image's folder names, if it names one."""
        folder = self.path.resolve().parent.name
        return folder if folder in dict(self.predictions) else None

    @property
    def is_wrong(self) -> bool:
        """Whether the answer is not what the folder says."""
        return self.truth is not None and self.predictions[0][0] != self.truth


@dataclass(frozen=True)
class Question:
    """What is asked about every image."""

    endpoint: str
    method: str
    label: str | None = None
    """The class to explain; None for each image's answer."""
    model: Mapping[str, str] = field(default_factory=dict)
    """Which one, where the endpoint has several."""


def request(asked: Question, path: Path) -> dict[str, Any]:
    """`InvokeEndpoint` for one image. Raises UserError where it cannot be read or is too large."""
    given = prediction.request(asked.endpoint, path, 1)
    del given["CustomAttributes"]
    wanted = f"verbose=true; explain={asked.method}; layer=true; thumbnail={THUMBNAIL}"
    if asked.label is not None:
        wanted += f'; class="{quote(asked.label)}"'  # headers are ASCII
    return {**given, **asked.model, "Accept": f"application/json; {wanted}"}


def explain_all(runtime: Any, asked: Question, paths: Sequence[Path]) -> Iterator[Explained]:
    """Every image in order, a few at a time. Raises UserError, ClientError."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(partial(_explain, runtime, asked), paths)


def _explain(runtime: Any, asked: Question, path: Path) -> Explained:
    try:
        given = request(asked, path)
    except UserError as error:
        return Explained(path, (), refusal=str(error))
    try:
        answer = _ask(runtime, given)
    except ClientError as error:
        if prediction.is_about_the_image(error) and asked.label is None:
            return Explained(path, (), refusal=_said(error))
        raise
    found = Explained(
        path,
        tuple((entry["label"], entry["probability"]) for entry in answer["predictions"]),
        _evidence(answer),
        _address(answer["explanation"]["thumbnail"]),
    )
    if asked.label is None and found.is_wrong:
        again = _ask(runtime, request(replace(asked, label=found.truth), path))
        return Explained(path, found.predictions, found.evidence, found.thumbnail, _evidence(again))
    return found


def _ask(runtime: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The endpoint's answer. Raises UserError for one of another kind."""
    content = runtime.invoke_endpoint(**given)["Body"].read()
    try:
        answer: dict[str, Any] = json.loads(content)
        _address(answer["explanation"]["layer"])
        answer["predictions"][0]["probability"] + 0.0
    except (ValueError, TypeError, KeyError, IndexError):
        raise UserError(
            f"The endpoint {given['EndpointName']} does not explain its answers; deploy this "
            f"version's image. It answers: {content[:80]!r}."
        ) from None
    return answer


def _evidence(answer: Mapping[str, Any]) -> Evidence:
    found = answer["explanation"]
    return Evidence(found["label"], found["probability"], _address(found["layer"]))


def _address(value: str) -> str:
    """A picture that is in its address: the page must not fetch any from elsewhere."""
    if not value.startswith(_DATA):
        raise ValueError(value[:40])
    return value


def _said(error: ClientError) -> str:
    text = str(error.response.get("OriginalMessage", ""))
    try:
        return str(json.loads(text)["error"])
    except (ValueError, TypeError, KeyError):
        return refusals.sentence(error)


def in_order(found: Sequence[Explained]) -> list[Explained]:
    """Those to look at first: wrong ones, the surest of them first; then the least sure."""

    def place(each: Explained) -> tuple[bool, bool, float]:
        best = each.predictions[0][1] if each.predictions else 0.0
        return (not each.predictions, not each.is_wrong, -best if each.is_wrong else best)

    return sorted(found, key=place)


def accuracy(found: Sequence[Explained]) -> float | None:
    """The share that is right, of the images in folders that name classes."""
    judged = [each for each in found if each.truth is not None]
    return sum(not each.is_wrong for each in judged) / len(judged) if judged else None
