"""The head on features: all that is trained when the backbone is frozen."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from container.training.frozen import FrozenImages
from container.training.source import Batch, random_batches


class Head(nn.Module):
    """The network's last layer alone; training it trains the network."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.fc = network.fc

    def forward(self, features: Tensor) -> Tensor:
        """From features (N, channels) to logits (N, classes)."""
        logits: Tensor = self.fc(features)
        return logits


class FrozenSource:
    """Features in batches; in each epoch one of an image's views, at random."""

    def __init__(self, images: FrozenImages, device: torch.device) -> None:
        self._features = images.features.to(device)
        self._labels = torch.from_numpy(images.labels)

    def __len__(self) -> int:
        return len(self._labels)

    def training_batches(
        self, *, batch_size: int, seed: int, epoch: int, first_step: int
    ) -> Iterator[Batch]:
        """See Source."""
        views = np.random.default_rng((seed, epoch, 1)).integers(
            self._features.shape[1], size=len(self)
        )
        for batch in random_batches(
            len(self), batch_size=batch_size, seed=seed, epoch=epoch, first_step=first_step
        ):
            rows, chosen = torch.from_numpy(batch), torch.from_numpy(views[batch])
            yield self._features[rows, chosen], self._labels[rows]

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """See Source."""
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            yield self._features[part, 0], self._labels[part]

    def inputs(self, views: Tensor) -> Tensor:
        """See Source."""
        return views
