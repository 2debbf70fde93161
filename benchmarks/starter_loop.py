"""The loop that tutorials start from: ImageFolder, PIL transforms, the whole network every epoch.

Run as a process by `benchmarks.frozen_backbone`; prints the loop's seconds and the accuracy.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

NORMALISE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def main(data: Path, weights: Path, architecture: str, epochs: int, rate: float, seed: int) -> None:
    """Train the head for some epochs, and test it on the held-out images."""
    torch.manual_seed(seed)
    train = datasets.ImageFolder(
        str(data / "train"),
        transforms.Compose(
            [
                transforms.Resize((224, 224)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                NORMALISE,
            ]
        ),
    )
    test = datasets.ImageFolder(
        str(data / "held_out"),
        transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), NORMALISE]),
    )
    network = models.get_model(architecture)
    network.load_state_dict(torch.load(weights, weights_only=True))
    for parameter in network.parameters():
        parameter.requires_grad = False
    network.fc = nn.Linear(network.fc.in_features, len(train.classes))
    optimizer = torch.optim.Adam(network.fc.parameters(), lr=rate)
    criterion = nn.CrossEntropyLoss()

    started = time.perf_counter()
    for _ in range(epochs):
        network.train()
        for images, labels in DataLoader(train, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - started

    started = time.perf_counter()
    network.eval()
    with torch.no_grad():
        right = sum(
            int((network(images).argmax(1) == labels).sum())
            for images, labels in DataLoader(test, batch_size=64)
        )
    testing = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "testing": testing, "accuracy": right / len(test)}))


if __name__ == "__main__":
    _, data, weights, architecture, epochs, rate, seed = sys.argv
    main(Path(data), Path(weights), architecture, int(epochs), float(rate), int(seed))
