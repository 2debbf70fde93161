"""Fine-tuning every layer, or the last stage, on a CPU: other loops, and Kennel."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import kennel
from benchmarks.kennel import ROOT, Run
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
    flags = (*FLAGS, f"--epochs={epochs}")
    # Each is all of its loop, with whatever it does once at the start.
    loops: dict[str, Callable[[], Run]] = {
        "torchvision's reference loop": partial(_reference, data, weights, epochs),
        "the same with timm's best flags": partial(_reference, data, weights, epochs, "--fast"),
        "Kennel, trainable=all": partial(
            kennel.train, scratch, data, weights, *flags, "--trainable=all"
        ),
        "Kennel, trainable=all, progressive": partial(
            kennel.train, scratch, data, weights, *flags, "--trainable=all", "--progressive=true"
        ),
        "Kennel, trainable=layer4": partial(
            kennel.train, scratch, data, weights, *flags, "--trainable=layer4"
        ),
    }
    runs: dict[str, list[Run]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            runs[name].append(loop())
    baseline, *_ = runs.values()
    return [
        Row(
            f"resnet18, {images} images, {epochs} epochs: {name}",
            _figure(each, images * epochs),
            middle([a.loop / b.loop for a, b in zip(baseline, each, strict=True)]),
        )
        for name, each in runs.items()
    ]


def _figure(runs: list[Run], images: int) -> str:
    seconds = middle([run.loop for run in runs])
    accuracy = runs[-1].accuracy
    return f"{seconds:.1f} s, {images / seconds:.0f} images/s, accuracy {accuracy:.0%}"


def _reference(data: Path, weights: Path, epochs: int, *flags: str) -> Run:
    command = [sys.executable, "-m", "benchmarks.reference_loop", str(data), str(weights)]
    command += [weights.stem, str(epochs), str(RATE), *flags]
    started = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    process = time.perf_counter() - started
    answer = json.loads(result.stdout)
    return Run(answer["seconds"], process, answer["accuracy"])
