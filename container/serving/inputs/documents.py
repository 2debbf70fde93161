"""Images in JSON: base64 or data: URLs, in one document or one to a line."""

import base64
import binascii
import io
import itertools
import json
import re
from typing import Any

from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from container.images import ImageError
from container.serving.inputs.items import MAX_IMAGES, MAX_RECORDS, Content, Item, Payload

IMAGE_KEYS = ("image", "b64")
"""Kennel's own name for an image's base64, and TensorFlow Serving's."""
LIST_KEYS = ("images", "instances")
"""The same for a list of them."""
MAX_COMMAS = 100_000
"""In a document or a line. Small values take many times their text in memory, and each but the
first of a list follows a comma; base64 has none."""
_WAYS = (
    '{"image": "<base64>"}, {"images": ["<base64>", ...]} or {"instances": [{"b64": "<base64>"}]}'
)
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def parse_document(body: bytes) -> Payload:
    """One image (`image`), or a list of images (`images`, `instances`).

    Raises:
        BadRequest: not JSON, or JSON of another form.
        RequestEntityTooLarge: more than MAX_IMAGES images, or MAX_COMMAS commas.
    """
    document = _json(body)
    if isinstance(document, dict):
        for key in LIST_KEYS:
            if isinstance(document.get(key), list):
                return _several(document[key], MAX_IMAGES)
        if any(key in document for key in IMAGE_KEYS):
            return Payload([Item(_content(document))], several=False)
    raise BadRequest(f"The JSON must be {_WAYS}.")


def parse_lines(body: bytes) -> Payload:
    """One image a line, each `{"image": "<base64>"}`; empty lines are skipped.

    Raises:
        BadRequest: no line at all. What is wrong with a line is an error in its place.
        RequestEntityTooLarge: more than MAX_RECORDS lines.
    """
    # One after the other: millions of short lines would take many times the body's memory.
    filled = (line for line in io.BytesIO(body) if line.strip())
    lines = list(itertools.islice(filled, MAX_RECORDS + 1))
    if not lines:
        raise BadRequest('The request has no lines; send one {"image": "<base64>"} a line.')
    return _several(lines, MAX_RECORDS)


def _several(entries: list[Any], most: int) -> Payload:
    if len(entries) > most:
        raise RequestEntityTooLarge(
            f"The request holds more than {most} images; send at most that many in a request."
        )
    return Payload([_item(entry) for entry in entries], several=True)


def _item(entry: Any) -> Item:
    """An entry of a list, or a line that is still text; its name where it has one."""
    if isinstance(entry, bytes):
        try:
            entry = _json(entry)
        except HTTPException as error:
            return Item(ImageError(str(error.description)))
    name = entry.get("name") if isinstance(entry, dict) else None
    return Item(_content(entry), str(name)[:1024] if name is not None else None)


def _content(entry: Any) -> Content:
    if isinstance(entry, dict):
        entry = next((entry[key] for key in IMAGE_KEYS if key in entry), None)
    if not isinstance(entry, str):
        return ImageError('An image must be base64 text, or {"image": "<base64>"}.')
    prefix = _DATA_URL.match(entry)
    text = entry[prefix.end() :] if prefix else entry
    try:
        # Encoders that break lines, and the URL-safe alphabet, are common enough.
        plain = "".join(text.split()).replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return ImageError("The image is not base64 text, nor a data: URL with base64 in it.")


def _json(text: bytes) -> Any:
    """Raises BadRequest, RequestEntityTooLarge."""
    if text.count(b",") > MAX_COMMAS:
        raise RequestEntityTooLarge(
            f"The JSON has more than {MAX_COMMAS:,} commas; images as base64 text need few."
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest(f"This is not JSON; send {_WAYS}.") from None
