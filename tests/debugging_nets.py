"""A small network and its training, for tests of the hook; as a module for processes of its own."""

from pathlib import Path

import torch
from torch import Tensor, nn

from container.debugging.hook import Hook, create_hook
from container.job import Job

__all__ = ["ResNet", "create_hook", "job_at", "train"]


class ResNet(nn.Module):
    """As little of a ResNet as the presets' names need."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.bn1(self.conv1(images)))
        scores: Tensor = self.fc(features.mean((2, 3)))
        return scores


def train(hook: Hook, steps: int = 4, *, bfloat16: bool = False) -> ResNet:
    """Steps of training, then one of evaluation."""
    torch.manual_seed(0)
    network, criterion = ResNet(), nn.CrossEntropyLoss()
    hook.register(network, criterion)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 3
    hook.training()
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = network(images)
        optimizer.zero_grad()
        criterion(logits if bfloat16 else logits.float(), labels).backward()
        optimizer.step()
    hook.evaluation()
    with torch.no_grad():
        criterion(network(images), labels)
    hook.close()
    return network


def job_at(directory: str) -> Job:
    """The job whose `/opt/ml` is a directory."""
    return Job(Path(directory))
