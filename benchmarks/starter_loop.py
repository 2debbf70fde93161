"""The loop that tutorials start from: ImageFolder, PIL transforms, the whole network every epoch.

Run as a process by `benchmarks.frozen_backbone`; prints the loop's seconds and the accuracy. With
`--frozen-norms` the frozen layers' batch normalisation keeps its trained statistics; the plain
loop leaves it in training mode. `--bfloat16` is for where its accuracy counts and not its time.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

NORMALISE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def main() -> None:
    """Train the head for some epochs, and test it on the held-out images."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("architecture")
    parser.add_argument("epochs", type=int)
    parser.add_argument("lr", type=float)
    parser.add_argument("seed", type=int)
    parser.add_argument("--frozen-norms", action="store_true")
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    data = options.data
    torch.manual_seed(options.seed)
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
    network = models.get_model(options.architecture)
    network.load_state_dict(torch.load(options.weights, weights_only=True))
    for parameter in network.parameters():
        parameter.requires_grad = False
    network.fc = nn.Linear(network.fc.in_features, len(train.classes))
    if options.bfloat16:
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.fc.parameters(), lr=options.lr)
    criterion = nn.CrossEntropyLoss()

    started = time.perf_counter()
    for _ in range(options.epochs):
        network.train(not options.frozen_norms)
        for images, labels in DataLoader(train, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
                loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - started

    # The test is no part of what is compared: it is as quick as this machine allows.
    started = time.perf_counter()
    network.eval().to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        right = sum(
            int((network(images).argmax(1) == labels).sum())
            for images, labels in DataLoader(test, batch_size=64)
        )
    testing = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "testing": testing, "accuracy": right / len(test)}))


if __name__ == "__main__":
    main()
