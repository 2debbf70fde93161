"""Pretrained weights, made here: ImageNet's are a download, and random ones recognise nothing.

Kennel itself trains them, on small generated photographs of classes that no benchmark fine-tunes
on; then their batch normalisation learns what such photographs look like at full size. They are
kept in Kennel's cache directory, so that they are made once.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torchvision.models import get_model

from benchmarks.kennel import ROOT
from benchmarks.photographs import write_photographs
from benchmarks.weights import see, write_weights
from container import artifact
from container.training.feature_store import cache_directory

VERSION = 3
"""Counted up when anything here changes."""
CLASSES, IMAGES = 32, 1920
FIRST_CLASS = 100
"""Far from the classes that benchmarks fine-tune on, which are numbered from 0."""
FLAGS = (
    "--weights=none",
    "--trainable=all",
    "--image-size=64",
    "--crop-scale=0.1",
    "--epochs=15",
    "--batch-size=32",
    "--lr=0.001",
    "--int8-loss=0",
    "--profile=false",
)


def pretrained(architecture: str) -> Path:
    """The file of an architecture's weights, as torchvision names them."""
    path = cache_directory() / "benchmarks" / f"{architecture}-{VERSION}.pth"
    if not path.exists():
        print(f"Pretraining {architecture} once, for {path}", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="kennel-pretraining-") as job:
            _pretrain(Path(job), architecture)
            _export(Path(job), architecture, path)
    return path


def pretrained_weights(scratch: Path, architecture: str, data: Path, *, quick: bool) -> Path:
    """Pretrained ones, which accuracies need; a quick run only asks whether all works."""
    if quick:
        return write_weights(scratch / f"{architecture}.pth", architecture, data / "train")
    return pretrained(architecture)


def _pretrain(job: Path, architecture: str) -> None:
    for seed, (split, images) in enumerate((("train", IMAGES), ("validation", CLASSES * 4))):
        directory = job / "input/data" / split
        write_photographs(
            directory, classes=CLASSES, images=images, seed=seed, first_class=FIRST_CLASS
        )
    subprocess.run(
        [sys.executable, ROOT / "train", f"--arch={architecture}", *FLAGS],
        env=os.environ | {"SAGEMAKER_BASE_DIR": str(job)},
        check=True,
    )


def _export(job: Path, architecture: str, path: Path) -> None:
    """Turn an artifact into a file of weights like torchvision's, with a head of 1,000 classes."""
    _, tensors = artifact.load(job / "model")
    network = get_model(architecture)
    state = network.state_dict()
    state |= {
        name: torch.from_numpy(array.copy())
        for name, array in tensors.items()
        if not name.startswith("fc.")
    }
    network.load_state_dict(state)
    see(network, sorted((job / "input/data/validation").rglob("*.jpg")))
    partial = path.with_suffix(".partial")
    torch.save(network.state_dict(), partial)
    partial.replace(path)
