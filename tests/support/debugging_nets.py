"""Small networks and real trainings with the hook, for tests of the debugging room."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from container.debugging.hook import Hook, create_hook
from container.debugging.presets import PRESETS, Collections
from container.debugging.tensors import Tensors
from container.job import Job

__all__ = ["DENSE", "Images", "ResNet", "create_hook", "job_at", "observe", "train"]

DENSE: Collections = {
    name: {
        **{key: value for key, value in parameters.items() if "save" not in key},
        "train.save_interval": "2",
        "eval.save_interval": "1" if name in ("losses", "labels", "predictions") else "1000000",
    }
    for name, parameters in PRESETS["full"].items()
}
DENSE["losses"]["train.save_interval"] = DENSE["labels"]["train.save_interval"] = "1"
"""The collections of `debug=full`, often enough for short trainings."""


class ResNet(nn.Module):
    """As little of a ResNet as the presets' names need."""

    def __init__(self, classes: int = 3, channels: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.bn1(self.conv1(images)))
        scores: Tensor = self.fc(features.mean((2, 3)))
        return scores


def train(
    hook: Hook, steps: int = 4, *, bfloat16: bool = False, trained: int = 0, evaluated: int = 0
) -> ResNet:
    """Steps of training, after some that were done before, then one of evaluation."""
    torch.manual_seed(0)
    network, criterion = ResNet(), nn.CrossEntropyLoss()
    hook.register(network, criterion, trained=trained, evaluated=evaluated)
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


@dataclass
class Images:
    """Noisy pictures of a few classes, each with a colour of its own."""

    images: Tensor
    labels: Tensor

    @classmethod
    def draw(cls, count: int, seed: int, *, classes: int = 3, noise: float = 1.0) -> "Images":
        """The same classes whatever the seed; only the pictures differ."""
        colours = torch.tensor([[1.0, -1, 0], [-1, 0, 1], [0, 1, -1]])[:classes]
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % classes
        pictures = noise * torch.randn(count, 3, 8, 8, generator=generator)
        return cls(pictures + colours[labels][:, :, None, None], labels)


def observe(
    directory: Path,
    network: nn.Module,
    train_images: Images,
    validation: Images,
    *,
    epochs: int = 3,
    lr: float = 0.05,
    batch_size: int = 32,
    collections: Collections | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    after_step: Callable[[int], object] = lambda step: None,
) -> Tensors:
    """A real training with real smdebug files, and what they hold."""
    job = job_at(str(directory))
    job.config_dir.mkdir(parents=True, exist_ok=True)
    described = [
        {"CollectionName": name, "CollectionParameters": parameters}
        for name, parameters in (collections or DENSE).items()
    ]
    (job.config_dir / "debughookconfig.json").write_text(
        json.dumps({"CollectionConfigurations": described})
    )
    hook = create_hook(job, "off")
    criterion = nn.CrossEntropyLoss()
    hook.register(network, criterion)
    optimizer = optimizer or torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    step = 0
    for epoch in range(epochs):
        hook.training()
        network.train()
        order = torch.randperm(
            len(train_images.labels), generator=torch.Generator().manual_seed(epoch)
        )
        for batch in torch.split(order, batch_size):
            optimizer.zero_grad()
            loss = criterion(network(train_images.images[batch]), train_images.labels[batch])
            loss.backward()
            optimizer.step()
            after_step(step)
            step += 1
        hook.evaluation()
        network.eval()
        with torch.no_grad():
            for batch in torch.split(torch.arange(len(validation.labels)), batch_size):
                criterion(network(validation.images[batch]), validation.labels[batch])
    hook.close()
    assert hook.failure is None
    return Tensors(job.output_dir / "tensors")


def job_at(directory: str) -> Job:
    """The job whose `/opt/ml` is a directory."""
    return Job(Path(directory))
