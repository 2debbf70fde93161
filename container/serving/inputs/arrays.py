"""Images as arrays: NumPy's .npy format, read as a view of the request's body."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from container.serving.inputs.items import MAX_IMAGES, Item, Payload

MAX_HEADER = 1024
"""Bytes of the array's header that are looked at; numpy.save writes 128."""


def parse_array(body: bytes) -> Payload:
    """One image of shape (height, width, 3), or several of shape (n, height, width, 3), uint8.

    Raises:
        BadRequest: damaged, or of another kind or shape.
        RequestEntityTooLarge: more than MAX_IMAGES images.
    """
    array = _array(body)
    if array.ndim == 3:
        return Payload([Item(array)], several=False)
    if len(array) > MAX_IMAGES:
        raise RequestEntityTooLarge(
            f"The array holds {len(array)} images; send at most {MAX_IMAGES} in a request."
        )
    return Payload([Item(image) for image in array], several=True)


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
