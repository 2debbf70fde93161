"""Images whose evidence is known, and a small network that is really trained on them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.nn.functional import cross_entropy

from container import model, torch_resnet
from container.images import Pixels, Preprocessing

FRUITS = {"lemon": (238, 205, 40), "lime": (110, 170, 40), "plum": (95, 40, 110)}
"""The classes, told apart by the colour of a ball that lies anywhere in the image."""
SIDE = 128
RADIUS = 0.14
"""The ball's, as a share of the side."""
PREPROCESSING = Preprocessing(image_size=SIDE, resize_size=SIDE)
_STEPS, _BATCH = 60, 24
_QUICK_SIDE = 64
"""A ResNet takes images of any size; of small ones it learns as much in a quarter of the time."""


def scene(
    generator: np.random.Generator, fruit: str, place: tuple[float, float], side: int = SIDE
) -> Pixels:
    """A ball on a rough ground, its centre at a place (across, down) in shares of the side."""
    radius = RADIUS * SIDE / side
    coarse = generator.normal(generator.uniform(90, 190), 25, (side // 8, side // 8, 1))
    ground = (coarse + generator.normal(0, 8, (1, 1, 3))).clip(0, 255).astype(np.uint8)
    smooth = Image.fromarray(ground).resize((side, side)).filter(ImageFilter.GaussianBlur(1))
    pixels = np.asarray(smooth).astype(np.float32)
    down, across = np.mgrid[:side, :side] / side
    inside = np.hypot(across - place[0], down - place[1]) < radius
    # Light comes from above and from the left.
    distance = np.hypot(across - place[0] + radius / 3, down - place[1] + radius / 3)
    shaded = np.array(FRUITS[fruit]) * (1.25 - 0.45 * distance / radius)[..., np.newaxis]
    pixels[inside] = shaded[inside]
    noisy: Pixels = (pixels + generator.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
    return noisy


def anywhere(generator: np.random.Generator) -> tuple[float, float]:
    """A place at which the whole ball is in the image."""
    across, down = generator.uniform(RADIUS, 1 - RADIUS, 2)
    return float(across), float(down)


def train(directory: Path) -> None:
    """Train a ResNet-18 on such scenes until it tells them apart, and write its artifact."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    network = torch_resnet.build("resnet18", len(FRUITS)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for step in range(_STEPS):
        side = SIDE if step % 4 == 3 else _QUICK_SIDE
        labels = generator.integers(0, len(FRUITS), _BATCH)
        images = [
            scene(generator, list(FRUITS)[each], anywhere(generator), side) for each in labels
        ]
        inputs = model.normalise(torch.from_numpy(np.stack(images)), PREPROCESSING)
        loss = cross_entropy(network(inputs), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.save(
        network,
        directory,
        architecture="resnet18",
        classes=list(FRUITS),
        preprocessing=PREPROCESSING,
        hyperparameters={},
        metrics={},
        data={},
    )
