"""Batch normalisation over the images of all processes, so that many train as one would.

torch's own works on GPUs alone. This one does the same with gloo, on CPUs.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose batch is the one of all processes together."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (N, channels, height, width); N may differ between the processes."""
        if not self.training:
            return super().forward(images)
        values = images.float()
        count = torch.full((1,), float(images.numel() // images.shape[1]))
        sums = _total(torch.cat([values.sum((0, 2, 3)), count]))
        total = sums[-1].detach()
        mean = (sums[:-1] / total).view(1, -1, 1, 1)
        # From the deviations: the difference of two large sums would lose the small variances.
        variance = _total((values - mean).square().sum((0, 2, 3))) / total
        self._remember(mean.detach().flatten(), variance.detach(), total)
        factor = self.weight * (variance + self.eps).rsqrt()
        scaled = (values - mean) * factor.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return scaled.to(images.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        momentum = self.momentum or 0.0
        self.running_mean.lerp_(mean, momentum)
        # A single value has a variance of zero, not of zero over zero.
        self.running_var.lerp_(variance * (total / (total - 1).clamp(min=1)), momentum)


def synchronise_batch_norms(network: nn.Module, device: torch.device) -> None:
    """Make every batch normalisation of a network one over all processes, in place."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, _synchronised(child, device))
        else:
            synchronise_batch_norms(child, device)


def _synchronised(norm: nn.BatchNorm2d, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call] # torch has no types for it
        return converted
    own = SynchronisedBatchNorm2d(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    own.weight, own.bias = norm.weight, norm.bias
    own.running_mean, own.running_var = norm.running_mean, norm.running_var
    own.num_batches_tracked = norm.num_batches_tracked
    own.train(norm.training)
    return own


class _Total(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Total.apply(values)
    return total
