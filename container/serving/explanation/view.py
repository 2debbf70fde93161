"""Where in the image as it was sent lies the square that the network sees."""

import io
import warnings
from dataclasses import dataclass

from PIL import Image

from container.images import FORMATS, MAX_ASPECT, Pixels, Preprocessing

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""EXIF's orientations that lie on their side."""


@dataclass(frozen=True)
class Box:
    """A part of an image, in its pixels from the left and from the top."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class View:
    """An upright image, and what the network sees of it."""

    width: int
    height: int
    box: Box


def view(image: bytes | Pixels, preprocessing: Preprocessing) -> View:
    """The image must be one that `preprocessing` has taken."""
    width, height = size(image)
    return View(width, height, seen(width, height, preprocessing))


def seen(width: int, height: int, preprocessing: Preprocessing) -> Box:
    """The part of an upright image that becomes the network's input."""
    short = preprocessing.resize_size
    # As in `images`: of a long image the middle, its shorter side resized, then the middle square.
    kept_width, kept_height = min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width)
    scale = short / min(kept_width, kept_height)
    columns = max(short, round(kept_width * scale))
    rows = max(short, round(kept_height * scale))
    size = preprocessing.image_size
    return Box(
        (width - kept_width) / 2 + (columns - size) // 2 * kept_width / columns,
        (height - kept_height) / 2 + (rows - size) // 2 * kept_height / rows,
        size * kept_width / columns,
        size * kept_height / rows,
    )


def size(image: bytes | Pixels) -> tuple[int, int]:
    """Width and height of an upright image, read from its header alone."""
    if not isinstance(image, bytes):
        return image.shape[1], image.shape[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_ORIENTATION) in _TURNED
    return (height, width) if turned else (width, height)
