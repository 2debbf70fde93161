"""Asking an endpoint about images."""

import json
import mimetypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from container.errors import UserError
from launcher import refusals
from launcher.store import Store
from launcher.waiting import Patience

LARGEST_BODY = 6_291_456
"""Bytes that SageMaker takes in one request to an endpoint."""
ANSWER_SECONDS = 900.0
"""As long as an asynchronous endpoint takes at most, unless it is told otherwise."""
ABOUT_THE_IMAGE = (400, 413, 415)
"""Statuses of a refusal that is about this image; what else goes wrong does so for all of them."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Refused(UserError):  # noqa: N818 - an answer, of one image among many
    """One image has no answer; others may have one."""


def images(paths: Sequence[str]) -> list[Path]:
    """The image files that the paths name; a folder stands for all images under it.

    Raises:
        UserError: a path that does not exist, or no image at all.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if not path.exists():
            raise UserError(f"{given} does not exist.")
        found += _images_under(path) if path.is_dir() else [path]
    if not found:
        raise UserError(f"There are no images in {', '.join(paths)}.")
    return found


def _images_under(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def spread(paths: Sequence[Path], limit: int) -> list[Path]:
    """At most so many, evenly chosen from a list in order of classes: some of every class."""
    if len(paths) <= limit:
        return list(paths)
    return [paths[place * len(paths) // limit] for place in range(limit)]


def request(endpoint: str, path: Path, top: int) -> dict[str, Any]:
    """`InvokeEndpoint` for one image. Raises Refused where it cannot be read or is too large."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None
    if len(body) > LARGEST_BODY:
        raise Refused(
            f"{path} has {len(body):,} bytes, an endpoint takes {LARGEST_BODY:,}; make it smaller."
        )
    return {**_form(endpoint, path, top), "Body": body}


def asynchronous_request(endpoint: str, path: Path, top: int, address: str) -> dict[str, Any]:
    """`InvokeEndpointAsync` for one image that lies at an address."""
    return {**_form(endpoint, path, top), "InputLocation": address}


def _form(endpoint: str, path: Path, top: int) -> dict[str, Any]:
    guessed = mimetypes.guess_type(path.name)[0] or ""
    return {
        "EndpointName": endpoint,
        "ContentType": guessed if guessed.startswith("image/") else "application/x-image",
        "Accept": "application/json",
        "CustomAttributes": f"top_k={top}",
    }


def ask(runtime: Any, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Labels and probabilities, best first.

    Raises:
        Refused: the container refused this image; the message is its own.
        UserError: an answer of another kind.
    """
    try:
        answer = runtime.invoke_endpoint(**given)["Body"].read()
    except ClientError as error:
        if is_about_the_image(error):
            raise Refused(refusals.sentence(error)) from None
        raise
    return read(given["EndpointName"], answer)


def is_about_the_image(error: ClientError) -> bool:
    """Whether the container refused one image, and may answer for another."""
    return error.response.get("OriginalStatusCode") in ABOUT_THE_IMAGE


def ask_later(
    runtime: Any, given: dict[str, Any], store: Store, patience: Patience
) -> list[dict[str, Any]]:
    """The same of an asynchronous endpoint: wait for the answer at its address.

    Raises:
        Refused: the container refused this image.
        UserError: there was no answer in time, or one of another kind.
    """
    places = runtime.invoke_endpoint_async(**given)
    name = given["EndpointName"]
    for _ in patience.until(ANSWER_SECONDS, f"The answer of {name}"):
        if store.has(places["OutputLocation"]):
            return read(name, store.fetch(places["OutputLocation"]))
        failure = places.get("FailureLocation")
        if failure and store.has(failure):
            said = store.fetch(failure).decode("utf-8", "replace")
            raise Refused(f"The endpoint {name} refused {given['InputLocation']}: {said}")
    return []


def read(endpoint: str, answer: bytes) -> list[dict[str, Any]]:
    """An answer's labels and probabilities. Raises UserError for an answer of another kind."""
    try:
        return [
            {"label": str(entry["label"]), "probability": float(entry["probability"])}
            for entry in json.loads(answer)
        ]
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"The endpoint {endpoint} does not answer as Kennel's image does: {answer[:80]!r}."
        ) from None
