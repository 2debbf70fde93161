"""Explanations as pictures: a transparent layer of colour, and the layer on the image."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from container.images import Pixels, Preprocessing, decode, shorter_side
from container.serving.explanation.activations import Square
from container.serving.explanation.explanation import Cells, Explanation
from container.serving.explanation.view import seen

SHORT_SIDE = (256, 512)
"""Pixels of the overlay's shorter side, at least and at most."""
LAYER_SIDE = 224
_OPACITY = (0.12, 0.78)
_OUTSIDE = 0.45
"""How bright the parts are that the network does not see."""
_CONTOUR = 0.5
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 3},
    "JPEG": {"quality": 80},
    "WEBP": {"quality": 70, "method": 0},
    "BMP": {},
}

# Matplotlib's inferno (CC0, by Nathaniel Smith and Stéfan van der Walt) at 17 places: its lightness
# rises evenly, so that it reads the same in grey and to the colour-blind.
_INFERNO = np.array(
    [
        (0, 0, 4),
        (11, 7, 36),
        (33, 12, 74),
        (61, 9, 101),
        (87, 16, 110),
        (113, 25, 110),
        (138, 34, 106),
        (163, 44, 97),
        (188, 55, 84),
        (210, 70, 68),
        (228, 90, 49),
        (241, 115, 29),
        (249, 142, 9),
        (252, 172, 17),
        (249, 203, 53),
        (242, 234, 105),
        (252, 255, 164),
    ],
    np.float32,
)


def colours(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A colour for each number in [0, 1]: (…) to (…, 3)."""
    places = np.linspace(0, 1, len(_INFERNO))
    channels = [np.interp(values, places, _INFERNO[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def layer(explanation: Explanation, side: int = LAYER_SIDE) -> Image.Image:
    """The map in colour, the more opaque the more evidence, with a line around the half of it.

    It is as large as what the network sees, and can be laid over it.
    """
    values = _enlarged(_speaking_for(explanation), side)
    low, high = _OPACITY
    opacity = (255 * (low + (high - low) * values)).astype(np.uint8)
    picture = np.dstack([colours(values), opacity])
    # White beside black is seen on any image. How far a pixel is from the line, in pixels:
    slope = np.hypot(*np.gradient(values)) + 1e-6
    distance = np.abs(values - _CONTOUR) / slope
    for width, shade in ((2.0, 0), (1.0, 255)):
        share = (0.5 + width - distance).clip(0, 1)[..., np.newaxis]
        line = np.array([shade, shade, shade, 210])
        picture = (picture * (1 - share) + line * share).astype(np.uint8)
    return Image.fromarray(picture, "RGBA")


def overlay(image: bytes | Pixels, preprocessing: Preprocessing, explanation: Explanation) -> bytes:
    """The image with the layer on it, as a PNG; what the network does not see is darker."""
    picture = _small(image)  # of a very long image the middle, which is seen in the same way
    box = seen(*picture.size, preprocessing)
    left, top = round(box.left), round(box.top)
    width = min(round(box.width), picture.width - left)
    height = min(round(box.height), picture.height - top)
    dark = picture.point(lambda value: value * _OUTSIDE)
    part = picture.crop((left, top, left + width, top + height))
    # Less colour of its own, so that the layer's colours are the layer's.
    grey = part.convert("L").convert("RGB")
    part = Image.blend(part, grey, 0.6)
    heat = layer(explanation, max(width, height)).resize((width, height))
    part.paste(heat, mask=heat.getchannel("A"))
    dark.paste(part, (left, top))
    return _encoded(dark, "PNG")


def layer_address(explanation: Explanation) -> str:
    """The layer as a `data:` address."""
    return _address(_encoded(layer(explanation), "WEBP"), "image/webp")


def thumbnail_address(square: Square, side: int) -> str:
    """What the network sees, made small, as a `data:` address."""
    small = Image.fromarray(square)
    small.thumbnail((side, side))
    return _address(_encoded(small, "JPEG"), "image/jpeg")


def _small(image: bytes | Pixels) -> Image.Image:
    least, most = SHORT_SIDE
    data = image if isinstance(image, bytes) else _encoded(Image.fromarray(image), "BMP")
    return Image.fromarray(decode(data, min(max(shorter_side(data), least), most)))


def _speaking_for(explanation: Explanation) -> Cells:
    """What speaks for the class, from 0 to 1; what speaks against it is 0, as no evidence is.

    Where nothing speaks for the class, what speaks against it the least.
    """
    if explanation.high <= 0:
        return explanation.scaled()
    return (explanation.cells.clip(0) / explanation.high).astype(np.float32)


def _enlarged(cells: Cells, side: int) -> NDArray[np.float32]:
    smooth = Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(smooth).clip(0, 1)


def _encoded(picture: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, image_format, **_OPTIONS[image_format])
    return buffer.getvalue()


def _address(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
