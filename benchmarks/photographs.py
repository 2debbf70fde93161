"""Photograph-like JPEGs, generated: 500 x 375 pixels, one texture for each class."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from container import processors
from container.images import Pixels

WIDTH, HEIGHT = 500, 375


def write_photographs(
    directory: Path, *, classes: int, images: int, seed: int = 0, first_class: int = 0
) -> Path:
    """Write `images` JPEGs, spread evenly over folders of classes; returns the directory.

    `first_class` numbers the classes: those with other numbers have other textures.
    """

    def write(index: int) -> None:
        label = first_class + index % classes
        folder = directory / f"{label:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = _photograph(label, np.random.default_rng((seed, index)))
        Image.fromarray(pixels).save(folder / f"{index:06d}.jpg", quality=88)

    with ThreadPoolExecutor(processors.available()) as pool:
        list(pool.map(write, range(images)))
    return directory


def _photograph(label: int, generator: np.random.Generator) -> Pixels:
    """Smooth noise at several scales, with stripes whose width and slope are the class's own."""
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for side in (4, 16, 64):
        coarse = generator.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
        layer = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        canvas += np.asarray(layer, np.float32) / 3
    style = np.random.default_rng(label)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wave = np.sin(columns * style.uniform(0.05, 0.5) + rows * style.uniform(-0.5, 0.5))
    canvas += 60 * wave[..., None] * style.uniform(-1, 1, 3)
    return canvas.clip(0, 255).astype(np.uint8)
