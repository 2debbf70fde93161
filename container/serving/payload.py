"""What the body of a request holds: one encoded image, or an array of one or several images."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_options_header

from container.serving.classifier import EncodedOrPixels

IMAGE_TYPES = (
    "image/jpeg",
    "image/jpg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/gif",
    "image/tiff",
    "application/x-image",
)
ARRAY_TYPE = "application/x-npy"
MAX_ARRAY_IMAGES = 128
"""More images in one request would not be done within SageMaker's 60 seconds on a small machine."""
MAX_HEADER = 1024
"""Bytes of the array's header that are looked at; numpy.save writes 128."""


@dataclass(frozen=True)
class Payload:
    """The images of one request, in order."""

    images: list[EncodedOrPixels]
    several: bool
    """Whether the answer is a list with one entry per image, even if there is but one."""


def check_content_type(content_type: str | None) -> str:
    """The media type without its parameters. Raises UnsupportedMediaType."""
    media_type = parse_options_header(content_type)[0].lower()
    if media_type != ARRAY_TYPE and media_type not in IMAGE_TYPES:
        said = f"not {media_type!r}" if media_type else "and there is none"
        raise UnsupportedMediaType(
            f"Content-Type must be one of {', '.join((*IMAGE_TYPES, ARRAY_TYPE))}, {said}."
        )
    return media_type


def parse(media_type: str, body: bytes) -> Payload:
    """The images in a body of one of the accepted types; encoded ones are not decoded yet.

    Raises:
        BadRequest: an empty body, or an array that is damaged or of another kind or shape.
        RequestEntityTooLarge: an array of too many images.
    """
    if not body:
        raise BadRequest("The request has no body; send the bytes of an image.")
    if media_type != ARRAY_TYPE:
        # The decoder goes by the bytes: clients' names for a format are often wrong.
        return Payload([body], several=False)
    array = _array(body)
    if array.ndim == 3:
        return Payload([array], several=False)
    if len(array) > MAX_ARRAY_IMAGES:
        raise RequestEntityTooLarge(
            f"The array holds {len(array)} images; send at most {MAX_ARRAY_IMAGES} in a request."
        )
    return Payload(list(array), several=True)


def _array(body: bytes) -> NDArray[np.uint8]:
    """A view of the body, (height, width, 3) or (n, height, width, 3)."""
    stream = io.BytesIO(body[:MAX_HEADER])
    try:
        version = npy.read_magic(stream)  # type: ignore[no-untyped-call]
        read_header: Callable[[io.BytesIO], tuple[tuple[int, ...], bool, np.dtype[Any]]] = {
            (1, 0): npy.read_array_header_1_0,
            (2, 0): npy.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read_header(stream)
    except Exception:  # numpy parses the header as Python literals, which fails in many ways
        raise BadRequest("This is not an array in NumPy's .npy format (numpy.save).") from None
    if dtype != np.uint8:
        raise BadRequest(f"The array must be of dtype uint8, not {dtype}.")
    if len(shape) not in (3, 4) or shape[-1] != 3 or min(shape) < 1:
        raise BadRequest(
            f"The array must have shape (height, width, 3) or (n, height, width, 3), not {shape}."
        )
    held = len(body) - stream.tell()
    # Python's integers: a product of the header's numbers must not wrap around.
    if math.prod(shape) != held:
        raise BadRequest(f"The array's shape {shape} needs {math.prod(shape)} bytes, not {held}.")
    flat = np.frombuffer(body, np.uint8, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran_order else "C")
