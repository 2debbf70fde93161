"""Where in the image as it was sent lies the square that the network sees."""

from dataclasses import dataclass

from container.images import Preprocessing, window


@dataclass(frozen=True)
class Box:
    """A part of an upright image, in its pixels from the left and from the top."""

    left: float
    top: float
    width: float
    height: float


def seen(width: int, height: int, preprocessing: Preprocessing) -> Box:
    """The part of an upright image that becomes the network's input."""
    kept, _ = window(width, height, preprocessing.resize_size, preprocessing.image_size)
    left, top, right, bottom = kept
    return Box(left, top, right - left, bottom - top)
