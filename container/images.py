"""Decode and preprocess images: one code path for evaluation in training and for serving.

Knows Pillow and NumPy, not torch: `serve` uses it on hosts where torch is never imported.
"""

import contextlib
import io
import threading
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from container import image_costs
from container.errors import UserError

Pixels = NDArray[np.uint8]
"""An RGB image of shape (height, width, 3)."""
Size = tuple[int, int]
"""Width and height of an upright image."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: 100 megapixels are 300 MB of RGB."""
HUGE_PIXELS = 16_000_000
"""Larger images are decoded one at a time, so that a few of them do not fill the memory."""
MAX_ASPECT = 4
"""Of a longer image only the middle is kept, so that no image grows when it is resized."""

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""EXIF's orientations that lie on their side."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_one_huge_image = threading.Lock()


class ImageError(UserError):
    """These bytes are not an image that can be used."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than MAX_PIXELS."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input; travels with the weights in the artifact.

    The shorter side is resized to `resize_size` pixels (bilinear, antialiased), the middle square
    of `image_size` pixels is cut out, and the network itself subtracts `mean` and divides by `std`.
    """

    image_size: int = 224
    resize_size: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def for_image_size(cls, image_size: int) -> "Preprocessing":
        """ImageNet's proportion: 256 for 224."""
        return cls(image_size=image_size, resize_size=round(image_size * 256 / 224))

    def __call__(self, data: bytes) -> Pixels:
        """The middle square of an encoded image, (image_size, image_size, 3). Raises ImageError."""
        return decode(data, self.resize_size, crop=self.image_size)

    def with_size(self, data: bytes) -> tuple[Pixels, Size]:
        """The same, and the size of the whole image. Raises ImageError."""
        return _decoded(data, self.resize_size, self.image_size)

    def from_pixels(self, pixels: Pixels) -> Pixels:
        """The middle square of a decoded image of any size."""
        return np.asarray(_resize(Image.fromarray(pixels), self.resize_size, self.image_size))


def decode(data: bytes, short_side: int, *, crop: int | None = None) -> Pixels:
    """Decode one image, upright and in RGB, its shorter side resized to `short_side` pixels.

    With `crop` it is the middle square of so many pixels, (crop, crop, 3), and nothing else is
    resized; a level may then differ by 1, seldom 2, from what `center_crop` cuts out afterwards.
    Of an animation the first frame counts; transparent parts become white.

    Raises:
        ImageTooLargeError: more pixels than MAX_PIXELS, in the image or in a tile of it.
        ImageError: not an image, an unknown format, truncated or broken, or of too many scans.
    """
    return _decoded(data, short_side, crop)[0]


def _decoded(data: bytes, short_side: int, crop: int | None) -> tuple[Pixels, Size]:
    """What `decode` gives, and the size of the whole image, which is known once it is upright."""
    if not data:
        raise ImageError("The image is empty: 0 bytes.")
    if image_costs.has_too_many_scans(data):
        raise ImageError(
            f"The image has more than {image_costs.MAX_SCANS} scans, each of which takes time; "
            "save it as an ordinary JPEG."
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and of odd metadata; MAX_PIXELS is checked here.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ImageTooLargeError(
                        f"The image has {width} x {height} pixels; at most "
                        f"{MAX_PIXELS // 1_000_000} million are accepted."
                    )
                tile = _tile_pixels(data)
                # Twice the wanted size leaves the antialiasing to the exact resize below.
                reach = 2 * short_side / min(width, height)
                image.draft("RGB", (round(width * reach), round(height * reach)))
                # Pillow keeps 4 bytes a pixel, and several copies of what has to be converted.
                huge = max(image.size[0] * image.size[1], tile) > HUGE_PIXELS
                with _one_huge_image if huge else contextlib.nullcontext():
                    image.load()  # a PNG may say only after its pixels that it is turned
                    turned = image.getexif().get(_ORIENTATION) in _TURNED
                    ImageOps.exif_transpose(image, in_place=True)
                    pixels = _on_white(_resize(_eight_bits(image), short_side, crop))
                    return np.asarray(pixels), (height, width) if turned else (width, height)
    except ImageError:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, checked while it opens the file
        raise ImageTooLargeError(
            f"The image has far more than the {MAX_PIXELS // 1_000_000} million pixels that are "
            "accepted."
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"This is not an image in one of the formats {', '.join(FORMATS)}."
        ) from None
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise ImageError(f"The image is damaged: {error}.") from error


def shorter_side(data: bytes) -> int:
    """The shorter side in pixels of an image that `decode` has taken, read from its header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return min(image.size)


def _tile_pixels(data: bytes) -> int:
    """Pixels of a tile, where the file has tiles. Raises ImageTooLargeError."""
    tile = image_costs.tile_pixels(data)
    if tile is None or tile > MAX_PIXELS:
        raise ImageTooLargeError(
            f"The image is stored in tiles of more than the {MAX_PIXELS // 1_000_000} million "
            "pixels that are accepted."
        )
    return tile


def center_crop(pixels: Pixels, size: int) -> Pixels:
    """The middle square of `size` pixels; (height, width, 3) to (size, size, 3)."""
    top = (pixels.shape[0] - size) // 2
    left = (pixels.shape[1] - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def window(
    width: int, height: int, short_side: int, crop: int | None = None
) -> tuple[tuple[float, float, float, float], Size]:
    """What is kept of an image, as left, top, right and bottom, and the size that it is given.

    It is the whole image, or only the middle square of it that `center_crop` would cut out.
    """
    kept_width = min(width, MAX_ASPECT * height)
    kept_height = min(height, MAX_ASPECT * width)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    scale = short_side / min(kept_width, kept_height)
    size = (
        max(short_side, round(kept_width * scale)),
        max(short_side, round(kept_height * scale)),
    )
    if crop is None:
        return (left, top, left + kept_width, top + kept_height), size
    across, down = kept_width / size[0], kept_height / size[1]
    left += (size[0] - crop) // 2 * across
    top += (size[1] - crop) // 2 * down
    # A rounding error may not reach over the edge.
    right, bottom = min(width, left + crop * across), min(height, top + crop * down)
    return (left, top, right, bottom), (crop, crop)


def _resize(image: Image.Image, short_side: int, crop: int | None = None) -> Image.Image:
    """The whole image, or only the middle square of it that `center_crop` would cut out."""
    box, size = window(*image.size, short_side, crop)
    return image.resize(size, Image.Resampling.BILINEAR, box=box)


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where parts are transparent, which resizing treats as it must."""
    if image.mode in ("RGB", "RGBA"):
        return image
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow's own conversion clips
        grey = np.asarray(image).astype(np.float32) / 257
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
