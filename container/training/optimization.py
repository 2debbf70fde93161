"""What training minimises, and how: loss, optimizer, learning rate."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from container.hyperparameters import Hyperparameters

STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")
"""A ResNet's parts from the image to the answer; `bn1` belongs to the same stage as `conv1`."""


def build_criterion(
    options: Hyperparameters, labels: NDArray[np.int64], classes: int
) -> nn.CrossEntropyLoss:
    """Cross entropy; balanced weights make every class count alike, however many images it has.

    Over the training images the weights' mean is 1: an epoch's weights add up to its images.
    """
    weights = None
    if options.class_weights == "balanced":
        counts = np.bincount(labels, minlength=classes)
        present = np.count_nonzero(counts)
        each = len(labels) / (present * counts.clip(min=1))
        weights = torch.from_numpy(each.astype(np.float32))
    return nn.CrossEntropyLoss(weights, label_smoothing=options.label_smoothing)


def build_optimizer(network: nn.Module, options: Hyperparameters) -> torch.optim.Optimizer:
    """AdamW or SGD over the trainable parameters; biases and norms do not decay.

    Each group of parameters has a `scale`: its share of the learning rate.
    """
    groups = list(_groups(network, options))
    # `lr` is set before each step. Fused: one pass over memory instead of one for each operation.
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=0.0, eps=options.eps, fused=True)


def _groups(network: nn.Module, options: Hyperparameters) -> Iterator[dict[str, object]]:
    """Parameters that share a learning rate and a weight decay.

    Early layers of a pretrained network see edges and textures, which suit other images too; they
    should change less than late ones. https://arxiv.org/abs/1801.06146, section 3.2
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            stage = STAGES.index(name.split(".")[0])
            groups.setdefault((max(stage, 1), parameter.ndim > 1), []).append(parameter)
    for (stage, decays), parameters in groups.items():
        yield {
            "params": parameters,
            "weight_decay": options.weight_decay if decays else 0.0,
            "scale": options.layer_decay ** (len(STAGES) - 1 - stage),
        }


def learning_rate(peak: float, step: int, steps: int, options: Hyperparameters) -> float:
    """A linear warm-up to the peak; then half a cosine down to zero, or the peak to the end."""
    warm_up = max(1, round(options.warm_up * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    if options.schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
