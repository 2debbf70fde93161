"""The trained end of a network whose other layers are frozen, and what it is trained on."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from container.training.frozen import FrozenImages
from container.training.source import Batch, Share


class Head(nn.Module):
    """The network's last layer alone; training it trains the network."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.fc = network.fc

    def forward(self, features: Tensor) -> Tensor:
        """From features (N, channels) to logits (N, classes)."""
        logits: Tensor = self.fc(features)
        return logits


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
