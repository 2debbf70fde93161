"""Asking an endpoint about images."""

import json
import mimetypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from container.errors import UserError

LARGEST_BODY = 6_291_456
"""Bytes that SageMaker takes in one request to an endpoint."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


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


def request(endpoint: str, path: Path, top: int) -> dict[str, Any]:
    """`InvokeEndpoint` for one image. Raises UserError where it cannot be read or is too large."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if len(body) > LARGEST_BODY:
        raise UserError(
            f"{path} has {len(body):,} bytes, an endpoint takes {LARGEST_BODY:,}; make it smaller."
        )
    guessed = mimetypes.guess_type(path.name)[0] or ""
    return {
        "EndpointName": endpoint,
        "Body": body,
        "ContentType": guessed if guessed.startswith("image/") else "application/x-image",
        "Accept": "application/json",
        "CustomAttributes": f"top_k={top}",
    }


def ask(runtime: Any, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Labels and probabilities, best first. Raises UserError for an answer of another kind."""
    answer = runtime.invoke_endpoint(**given)["Body"].read()
    try:
        content = json.loads(answer)
        return [
            {"label": str(entry["label"]), "probability": float(entry["probability"])}
            for entry in content
        ]
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"The endpoint {given['EndpointName']} does not answer as Kennel's image does: "
            f"{answer[:80]!r}."
        ) from None
