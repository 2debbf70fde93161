"""Mixup: train on mixtures of two images, whose labels are mixed alike.

https://arxiv.org/abs/1710.09412. On cached features it mixes those: https://arxiv.org/abs/1806.05236
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot


def mix(
    inputs: Tensor, labels: Tensor, *, classes: int, alpha: float, seed: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Mix each input with another of its batch, all in one share drawn from Beta(alpha, alpha).

    Args:
        inputs: float (N, ...).
        labels: int64 (N,), on the same device.
        classes: the number of classes, C.
        alpha: small values give mixtures that are mostly one image, 1 gives all alike.
        seed: the same seed mixes the same way.

    Returns:
        the mixed inputs, and float probabilities (N, C); each image's own label has the larger.
    """
    generator = np.random.default_rng(seed)
    share = generator.beta(alpha, alpha)
    share = max(share, 1 - share)
    other = torch.from_numpy(generator.permutation(len(labels))).to(labels.device)
    targets = one_hot(labels, classes).to(torch.float32)
    return torch.lerp(inputs[other], inputs, share), torch.lerp(targets[other], targets, share)
