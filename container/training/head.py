"""The trained end of a network whose other layers are frozen, and what it is trained on."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from container.training.frozen import FrozenImages
from container.training.source import Batch, Share
from container.training.world import World

FIRST_SHARE = 0.3
"""Of the weights that torch draws for a last layer, what training begins with: on features of
variance 1 all of them would drown the first answers in noise, and short trainings end in it."""
LEAST_VARIANCE = 0.01
"""Of the mean over channels, added to each: one that hardly varies is mostly noise."""
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Moments:
    """What the features of the training images are like, each (channels,)."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, images: FrozenImages, channels: int, world: World) -> "Moments":
        """Those of all views of all processes' images, in float32."""
        sums = torch.zeros(2, channels, dtype=torch.float64)
        positions = np.sort(images.positions, axis=None)
        for start in range(0, len(positions), ROWS_AT_ONCE):
            rows = images.rows.gather(positions[start : start + ROWS_AT_ONCE]).double()
            sums += torch.stack([rows.sum(0), rows.square().sum(0)])
        count, *totals = world.total(len(positions), *sums.flatten().tolist())
        mean, square = torch.tensor(totals, dtype=torch.float64).view_as(sums) / max(1.0, count)
        variance = (square - mean.square()).clamp(min=0)
        deviation = (variance + LEAST_VARIANCE * variance.mean()).sqrt()
        return cls(mean.float(), torch.where(deviation > 0, deviation, 1).float())


class Head(nn.Module):
    """The network's last layer alone, on features that each have mean 0 and variance 1.

    Features as they come differ in scale and lie far from 0, so that few steps get nowhere (He et
    al., https://arxiv.org/abs/2111.06377, appendix A.1). What is learned is the same function,
    and `write_to` gives the network a layer that computes it from features as they come.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: ResNet, moments: Moments) -> None:
        super().__init__()
        self.fc = copy.deepcopy(network.fc)
        device = self.fc.weight.device
        self.register_buffer("mean", moments.mean.to(device), persistent=False)
        self.register_buffer("deviation", moments.deviation.to(device), persistent=False)
        with torch.no_grad():
            for parameter in self.fc.parameters():
                parameter.mul_(FIRST_SHARE)

    def forward(self, features: Tensor) -> Tensor:
        """From features (N, channels) to logits (N, classes)."""
        logits: Tensor = self.fc((features - self.mean) / self.deviation)
        return logits

    @torch.no_grad()
    def write_to(self, network: ResNet) -> None:
        """Give the network the layer that was trained."""
        weight = self.fc.weight.double() / self.deviation
        network.fc.weight.copy_(weight)
        network.fc.bias.copy_(self.fc.bias - weight @ self.mean.double())


class LastStage(nn.Module):
    """The network's last stage and its head; training them trains the network."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.layer4 = network.layer4
        self.avgpool = network.avgpool
        self.fc = network.fc

    def forward(self, activations: Tensor) -> Tensor:
        """From layer3's activations (N, height, width, channels) to logits (N, classes)."""
        data = self.layer4(activations.permute(0, 3, 1, 2))
        logits: Tensor = self.fc(self.avgpool(data).flatten(1))
        return logits


class FrozenSource:
    """What the frozen layers made of images, in batches; in each epoch one view, at random."""

    def __init__(self, images: FrozenImages, share: Share) -> None:
        self._images = images
        self._share = share
        self._labels = torch.from_numpy(images.labels)

    def __len__(self) -> int:
        return self._share.images(len(self._labels))

    def training_batches(
        self, *, batch_size: int, seed: int, epoch: int, first_step: int
    ) -> Iterator[Batch]:
        """See Source."""
        positions = self._images.positions
        held = len(positions)
        views = np.random.default_rng((seed, epoch, 1)).integers(positions.shape[1], size=held)
        for batch in self._share.batches(
            held, batch_size=batch_size, seed=seed, epoch=epoch, first_step=first_step
        ):
            rows = self._images.rows.gather(positions[batch, views[batch]])
            yield rows, self._labels[torch.from_numpy(batch)]

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """See Source."""
        own = self._share.evaluated(len(self._labels))
        for start in range(own.start, own.stop, batch_size):
            part = slice(start, min(start + batch_size, own.stop))
            yield self._images.rows.gather(self._images.positions[part, 0]), self._labels[part]

    def inputs(self, views: Tensor) -> Tensor:
        """See Source."""
        return views if views.dtype == torch.bfloat16 else views.float()
