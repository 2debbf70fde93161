"""What training minimises, and how: loss, optimizer, learning rate."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from container.hyperparameters import Hyperparameters

WARM_UP_SHARE = 0.05


def build_criterion(
    options: Hyperparameters, labels: NDArray[np.int64], classes: int
) -> nn.CrossEntropyLoss:
    """Cross entropy; balanced weights make every class count alike, however many images it has."""
    weights = None
    if options.class_weights == "balanced":
        counts = np.bincount(labels, minlength=classes).clip(min=1)
        weights = torch.from_numpy((len(labels) / (classes * counts)).astype(np.float32))
    return nn.CrossEntropyLoss(weights, label_smoothing=options.label_smoothing)


def build_optimizer(network: nn.Module, options: Hyperparameters) -> torch.optim.Optimizer:
    """AdamW or SGD over the trainable parameters; biases and norms do not decay."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=options.lr, eps=options.eps)


def learning_rate(peak: float, step: int, steps: int) -> float:
    """Linear warm-up over the first twentieth of all steps, then half a cosine down to zero."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
