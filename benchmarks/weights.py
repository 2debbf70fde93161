"""Stand-in weights: random, since ImageNet's are a download, and good enough to tell textures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models import get_model

from container import model
from container.images import Preprocessing

CALIBRATION_IMAGES = 64


def write_weights(path: Path, architecture: str, photographs: Path) -> Path:
    """Save random weights whose batch normalisation knows the statistics of these photographs.

    Without those the network's answers drown in its own scale, and what training reaches says
    nothing. They cost what trained weights cost.
    """
    torch.manual_seed(0)
    network = get_model(architecture)
    files = sorted(photographs.rglob("*.jpg"))
    chosen = np.linspace(0, len(files) - 1, CALIBRATION_IMAGES).astype(int)
    see(network, [files[index] for index in chosen])
    torch.save(network.state_dict(), path)
    return path


def see(network: nn.Module, photographs: Sequence[Path]) -> None:
    """Give batch normalisation the statistics of these photographs, all as one batch."""
    preprocessing = Preprocessing()
    pixels = np.stack([preprocessing(photograph.read_bytes()) for photograph in photographs])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the one batch, which is all there is
    with torch.no_grad():
        network.train()(model.normalise(torch.from_numpy(pixels), preprocessing))
