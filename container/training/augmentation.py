"""Random views of training images. The same seed, epoch and step always give the same views."""

import math

import numpy as np
from PIL import Image

from container.images import Pixels, center_crop


class Augmentation:
    """A random crop resized to the network's input, mirrored at random."""

    def __init__(self, *, image_size: int, crop_scale: float, flip: bool) -> None:
        self.image_size = image_size
        self.crop_scale = crop_scale
        self.flip = flip

    def __call__(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """One view of a decoded image, (image_size, image_size, 3)."""
        view = self._crop(pixels, generator)
        if self.flip and generator.random() < 0.5:
            view = view[:, ::-1]
        return view

    def _crop(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        size = self.image_size
        if self.crop_scale == 1:
            return center_crop(pixels, size)
        height, width = pixels.shape[:2]
        area = height * width * generator.uniform(self.crop_scale, 1)
        # The proportions of torchvision's RandomResizedCrop.
        aspect = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_width = min(width, math.sqrt(area * aspect))
        crop_height = min(height, math.sqrt(area / aspect))
        left = generator.uniform(0, width - crop_width)
        top = generator.uniform(0, height - crop_height)
        box = (left, top, left + crop_width, top + crop_height)
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(image)
