"""Time and memory of a training as its data grows: small images in tar shards, made on the fly.

The images are 64 pixels wide and the network sees 32, so that 100,000 of them take minutes on two
cores. What a training costs that does not come from the size of its images shows all the more.
"""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import kennel
from benchmarks.growth_plot import Point, draw
from benchmarks.photographs import write_photographs
from benchmarks.table import Row
from benchmarks.weights import write_weights

SIDE, SEEN = 64, 32
CLASSES = 10
SHARD = 10_000
VALIDATION = 200
PICTURE = kennel.ROOT / "docs/pictures/growth.png"
FLAGS = (f"--image-size={SEEN}", "--profile=false", "--int8-loss=0", "--test-batch-size=512")


@dataclass(frozen=True)
class Way:
    """A way to train."""

    name: str
    flags: tuple[str, ...]


WAYS = (
    Way("head, 3 epochs", ("--trainable=head", "--epochs=3")),
    Way("all layers, 1 epoch", ("--trainable=all", "--epochs=1", "--batch-size=256")),
)


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Both ways at each size, and a plot of them beside the documents."""
    sizes = (200, 400) if quick else (1_000, 10_000, 100_000)
    photographs = write_photographs(scratch / "photographs", classes=CLASSES, images=64)
    weights = write_weights(scratch / "resnet18.pth", "resnet18", photographs)
    data = scratch / "data"
    write_shards(data / "validation", VALIDATION, seed=1)
    points: dict[str, list[Point]] = {way.name: [] for way in WAYS}
    written = 0
    for size in sizes:
        write_shards(data / "train", size - written, seed=0, first=written)
        written = size
        for way in WAYS:
            training = kennel.train(scratch, data, weights, *FLAGS, *way.flags, test=False)
            points[way.name].append(
                Point(
                    size,
                    training.loop,
                    training.processor,
                    training.own_memory,
                    training.memory,
                )
            )
    if not quick:
        draw(points, PICTURE)
    return [
        Row(f"resnet18 at {SEEN} pixels, {name}: {point.images:,} images", str(point))
        for name, row in points.items()
        for point in row
    ]


def write_shards(directory: Path, images: int, *, seed: int, first: int = 0) -> None:
    """Write so many more images, in tar archives of at most SHARD: `class/number.jpg`."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng((seed, first))
    styles = np.random.default_rng(0).uniform(0.1, 1.2, (CLASSES, 2))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for start in range(first, first + images, SHARD):
        with tarfile.open(directory / f"{start:06d}.tar", "w") as archive:
            for number in range(start, min(start + SHARD, first + images)):
                label = number % CLASSES
                across, down = styles[label]
                wave = 80 * np.sin(columns * across + rows * down + generator.uniform(0, 6))
                coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                smooth = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                pixels = np.asarray(smooth, np.float32) + wave[..., None]
                file = io.BytesIO()
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG")
                member = tarfile.TarInfo(f"{label}/{number:06d}.jpg")
                member.size = file.tell()
                file.seek(0)
                archive.addfile(member, file)
