"""Stand-in weights: random, since ImageNet's are a download, and good enough to tell textures."""

from pathlib import Path

import numpy as np
import torch
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
    preprocessing = Preprocessing()
    files = sorted(photographs.rglob("*.jpg"))
    chosen = np.linspace(0, len(files) - 1, CALIBRATION_IMAGES).astype(int)
    pixels = np.stack([preprocessing(files[index].read_bytes()) for index in chosen])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the one batch, which is all there is
    with torch.no_grad():
        network.train()(model.normalise(torch.from_numpy(pixels), preprocessing))
    torch.save(network.state_dict(), path)
    return path
