"""Fine-tuning all layers as torchvision's reference does it; with `--fast`, with timm's best flags.

The operations are those of `references/classification/train.py`: ImageFolder, RandomResizedCrop
and flip by Pillow, two loading processes, SGD. `--fast` adds channels_last and bfloat16, as timm's
`--channels-last --amp --amp-dtype bfloat16` do. Run as a process by `benchmarks.all_layers`.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

NORMALISE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
BATCH_SIZE = 32


def main() -> None:
    """Train for some epochs; print the loop's seconds and the accuracy on the test images."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("architecture")
    parser.add_argument("epochs", type=int)
    parser.add_argument("lr", type=float)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    layout = torch.channels_last if options.fast else torch.contiguous_format
    views = transforms.Compose(
        [
            transforms.RandomResizedCrop(224, scale=(0.35, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            NORMALISE,
        ]
    )
    middle = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), NORMALISE]
    )
    train = datasets.ImageFolder(str(options.data / "train"), views)
    test = datasets.ImageFolder(str(options.data / "held_out"), middle)
    network = models.get_model(options.architecture)
    network.load_state_dict(torch.load(options.weights, weights_only=True))
    network.fc = nn.Linear(network.fc.in_features, len(train.classes))
    network.to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), options.lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    criterion = nn.CrossEntropyLoss()

    started = epoch_started = time.perf_counter()
    before = sum(os.times()[:4])
    network.train()
    for _ in range(options.epochs):
        epoch_started = time.perf_counter()
        for images, labels in DataLoader(train, BATCH_SIZE, shuffle=True, num_workers=2):
            with torch.autocast("cpu", torch.bfloat16, enabled=options.fast):
                loss = criterion(network(images.to(memory_format=layout)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    seconds, last_epoch = (time.perf_counter() - since for since in (started, epoch_started))
    processor = sum(os.times()[:4]) - before  # with that of the loading processes, which have ended

    # The test is no part of what is compared: it is as quick as this machine allows.
    network.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        right = sum(
            int((network(images).argmax(1) == labels).sum())
            for images, labels in DataLoader(test, BATCH_SIZE)
        )
    answer = {"seconds": seconds, "processor": processor, "last_epoch": last_epoch}
    answer["accuracy"] = right / len(test)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
