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


def main(data: Path, weights: Path, architecture: str, epochs: int) -> None:
    """Train the head for some epochs, and test it on the held-out images."""
    torch.manual_seed(0)
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
        str(data / "test"),
        transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), NORMALISE]),
    )
    network = models.get_model(architecture)
    network.load_state_dict(torch.load(weights, weights_only=True))
    for parameter in network.parameters():
        parameter.requires_grad = False
    network.fc = nn.Linear(network.fc.in_features, len(train.classes))
    optimizer = torch.optim.Adam(network.fc.parameters(), lr=0.003)
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

    network.eval()
    with torch.no_grad():
        right = sum(
            int((network(images).argmax(1) == labels).sum())
            for images, labels in DataLoader(test, batch_size=64)
        )
    print(json.dumps({"seconds": seconds, "accuracy": right / len(test)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
