"""Random views of training images. The same seed, epoch and image always give the same view."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from container.images import Pixels, center_crop

SIDE_STEP = 32
"""The network halves its images five times."""
FIRST_SIDE = 4 / 7
"""128 of 224 pixels, which a network sees at a third of the cost."""


@dataclass(frozen=True)
class Box:
    """The part of an image that a view shows, in pixels; mirrored or not."""

    left: float
    top: float
    width: float
    height: float
    mirrored: bool


@dataclass(frozen=True)
class Augmentation:
    """A random crop resized to the network's input, mirrored at random."""

    image_size: int
    crop_scale: float
    flip: bool

    def __call__(self, pixels: Pixels, generator: np.random.Generator, side: int) -> Pixels:
        """One view of a decoded image, (side, side, 3)."""
        box = self.box(pixels.shape[0], pixels.shape[1], generator)
        if self.crop_scale == 1 and side == self.image_size:
            view = center_crop(pixels, side)
        else:
            corners = (box.left, box.top, box.left + box.width, box.top + box.height)
            image = Image.fromarray(pixels)
            view = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=corners))
        return view[:, ::-1] if box.mirrored else view

    def box(self, height: int, width: int, generator: np.random.Generator) -> Box:
        """What a view of an image of this height and width shows."""
        if self.crop_scale == 1:
            side = self.image_size
            middle = ((width - side) // 2, (height - side) // 2)
            return Box(*middle, side, side, self._mirrored(generator))
        area = height * width * generator.uniform(self.crop_scale, 1)
        # The proportions of torchvision's RandomResizedCrop.
        aspect = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_width = min(width, math.sqrt(area * aspect))
        crop_height = min(height, math.sqrt(area / aspect))
        left = generator.uniform(0, width - crop_width)
        top = generator.uniform(0, height - crop_height)
        return Box(left, top, crop_width, crop_height, self._mirrored(generator))

    def _mirrored(self, generator: np.random.Generator) -> bool:
        return self.flip and generator.random() < 0.5


def progressive_side(image_size: int, epoch: int, epochs: int) -> int:
    """The side of training images in an epoch: growing evenly, and whole in the last epoch."""
    done = epoch / (epochs - 1) if epochs > 1 else 1.0
    side = image_size * (FIRST_SIDE + (1 - FIRST_SIDE) * done)
    return min(image_size, max(SIDE_STEP, round(side / SIDE_STEP) * SIDE_STEP))
