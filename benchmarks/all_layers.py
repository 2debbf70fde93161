"""Fine-tuning every layer, or the last stage, on a CPU: other loops, and Kennel."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import kennel
from benchmarks.kennel import ROOT
from benchmarks.photographs import write_photographs
from benchmarks.table import Row, middle
from benchmarks.weights import write_weights

CLASSES = 8
RATE = 0.02
FLAGS = ("--optimizer=sgd", "--batch-size=32", f"--lr={RATE}", "--profile=false")


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """All loops in alternation, on the same images from the same weights."""
    images, epochs, rounds = (64, 1, 1) if quick else (256, 2, 2)
    data = scratch / "data"
    for number, (split, count) in enumerate(
        (("train", images), ("validation", 16), ("held_out", 200))
    ):
        write_photographs(data / split, classes=CLASSES, images=count, seed=number)
    weights = write_weights(scratch / "resnet18.pth", "resnet18", data / "train")
    each = f"--epochs={epochs}"
    # Each is all of its loop, with whatever it does once at the start.
    loops = {
        "torchvision's reference loop": lambda: _reference(data, weights, epochs),
        "the same with timm's best flags": lambda: _reference(data, weights, epochs, "--fast"),
        "Kennel, trainable=all": lambda: _kennel(scratch, data, weights, each, "--trainable=all"),
        "Kennel, trainable=all, progressive": lambda: _kennel(
            scratch, data, weights, each, "--trainable=all", "--progressive=true"
        ),
        "Kennel, trainable=layer4": lambda: _kennel(
            scratch, data, weights, each, "--trainable=layer4"
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    accuracies: dict[str, float] = {}
    for _ in range(rounds):
        for name, loop in loops.items():
            seconds, accuracies[name] = loop()
            times[name].append(seconds)
    baseline, *_ = times.values()
    return [
        Row(
            f"resnet18, {images} images, {epochs} epochs: {name}",
            f"{middle(seconds):.1f} s, {images * epochs / middle(seconds):.0f} images/s, "
            f"accuracy {accuracies[name]:.0%}",
            middle([a / b for a, b in zip(baseline, seconds, strict=True)]),
        )
        for name, seconds in times.items()
    ]


def _reference(data: Path, weights: Path, epochs: int, *flags: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.reference_loop", str(data), str(weights)]
    command += [weights.stem, str(epochs), str(RATE), *flags]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    answer = json.loads(result.stdout)
    return answer["seconds"], answer["accuracy"]


def _kennel(scratch: Path, data: Path, weights: Path, *flags: str) -> tuple[float, float]:
    run = kennel.train(scratch, data, weights, *FLAGS, *flags)
    return run.loop, run.accuracy
