"""Training the head on a frozen backbone: the loop that tutorials start from, and Kennel."""

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
from benchmarks.pretraining import pretrained_weights
from benchmarks.table import Row, middle
from benchmarks.weights import write_weights

CLASSES = 8
RATE = 0.01
SAME = ("--schedule=constant", "--warm-up=0", "--weight-decay=0")
"""With these Kennel's optimizer is the starter loop's: Adam at one learning rate."""


def resnet18(scratch: Path, *, quick: bool) -> list[Row]:
    """3 epochs in alternation with three seeds, then 10 epochs."""
    data = photographs(scratch, *((64, 16) if quick else (256, 1000)))
    weights = pretrained_weights(scratch, "resnet18", data, quick=quick)
    rows = _compare(scratch, data, weights, epochs=3, seeds=1 if quick else 3)
    return rows if quick else rows + _compare(scratch, data, weights, epochs=10, seeds=1)


def resnet50(scratch: Path, *, quick: bool) -> list[Row]:
    """3 epochs."""
    data = photographs(scratch, *((32, 16) if quick else (256, 1000)))
    weights = pretrained_weights(scratch, "resnet50", data, quick=quick)
    return _compare(scratch, data, weights, epochs=1 if quick else 3, seeds=1)


def accuracies(scratch: Path, *, quick: bool) -> list[Row]:
    """What is learned, whatever it takes: the mean of three seeds on 1,000 other images.

    There are so many classes that no loop has all images right. All compute in bfloat16 here, so
    that it is over soon. The starter loop leaves frozen batch normalisation in training mode; with
    the statistics that it came with, the frozen layers are those of Kennel.
    """
    images, held_out, epochs, seeds = (64, 16, 1, 1) if quick else (512, 1000, 3, 3)
    classes = CLASSES if quick else 64
    data = photographs(scratch, images, held_out, classes)
    weights = pretrained_weights(scratch, "resnet18", data, quick=quick)
    loops: dict[str, Callable[[int], Run]] = {
        "starter loop": lambda seed: starter(data, weights, epochs, seed, "--bfloat16"),
        "starter loop, statistics frozen too": lambda seed: starter(
            data, weights, epochs, seed, "--bfloat16", "--frozen-norms"
        ),
        "Kennel, two views": partial(_kennel, scratch, data, weights, epochs),
    }
    rows = []
    for name, loop in loops.items():
        found = [loop(seed).accuracy for seed in range(seeds)]
        each = ", ".join(f"{accuracy:.1%}" for accuracy in found)
        rows.append(
            Row(
                f"resnet18, {classes} classes, {images} images, {epochs} epochs: {name}",
                f"accuracy {sum(found) / seeds:.1%} ({each})",
            )
        )
    return rows


def second_run(scratch: Path, *, quick: bool) -> list[Row]:
    """What another trial with other hyperparameters costs, on as many images as a real set has."""
    images, held_out = (32, 16) if quick else (6680, 400)
    data = photographs(scratch, images, held_out)
    weights = write_weights(scratch / "resnet18.pth", "resnet18", data / "train")
    first = kennel.train(scratch, data, weights, "--epochs=10", f"--lr={RATE}")
    second = kennel.train(
        scratch, data, weights, "--epochs=10", "--lr=0.003", "--batch-size=128", keep=True
    )
    loop, process = second.loop / first.loop, second.process / first.process
    name = f"resnet18, {images} images, 10 epochs"
    return [
        Row(f"{name}: first run", f"{first.loop:.1f} s, as a process {first.process:.1f} s"),
        Row(f"{name}: second run, loop against loop", f"{second.loop:.2f} s, {loop:.1%}", 1 / loop),
        Row(f"{name}: second run, whole processes", f"{second.process:.1f} s, {process:.1%}"),
    ]


def whole_processes(scratch: Path, *, quick: bool) -> list[Row]:
    """Imports, start and report included: 10 epochs of 1,000 images."""
    images, held_out, epochs, rounds = (32, 16, 2, 1) if quick else (1000, 400, 10, 3)
    data = photographs(scratch, images, held_out)
    weights = write_weights(scratch / "resnet18.pth", "resnet18", data / "train")
    flags = (f"--epochs={epochs}", f"--lr={RATE}")
    ours = middle([kennel.train(scratch, data, weights, *flags).process for _ in range(rounds)])
    # The starter's time is the same in every epoch, and ten of them take five minutes.
    one = starter(data, weights, 1)
    whole = one.process + (epochs - 1) * one.loop
    name = f"resnet18, {images} images, {epochs} epochs, whole processes"
    return [
        Row(f"{name}: starter loop, {epochs} times the epoch that was measured", f"{whole:.0f} s"),
        Row(f"{name}: Kennel", f"{ours:.1f} s", whole / ours),
    ]


def photographs(scratch: Path, images: int, held_out: int = 400, classes: int = CLASSES) -> Path:
    """So many to train on, a few for validation, and those that models are tested on."""
    data = scratch / "data"
    for number, (split, count) in enumerate(
        (("train", images), ("validation", 2 * classes), ("held_out", held_out))
    ):
        write_photographs(data / split, classes=classes, images=count, seed=number)
    return data


def _compare(scratch: Path, data: Path, weights: Path, *, epochs: int, seeds: int) -> list[Row]:
    starters, kennels = [], []
    for seed in range(seeds):
        starters.append(starter(data, weights, epochs, seed))
        kennels.append(_kennel(scratch, data, weights, epochs, seed))
    ratio = middle([a.loop / b.loop for a, b in zip(starters, kennels, strict=True)])
    name = f"{weights.stem.partition('-')[0]}, 256 images, {epochs} epochs"
    return [
        Row(f"{name}: starter loop", _figure(starters)),
        Row(f"{name}: Kennel, two views, loop against loop", _figure(kennels), ratio),
    ]


def _kennel(scratch: Path, data: Path, weights: Path, epochs: int, seed: int) -> Run:
    flags = (f"--epochs={epochs}", f"--lr={RATE}", f"--seed={seed}", *SAME)
    return kennel.train(scratch, data, weights, *flags)


def _figure(runs: list[Run]) -> str:
    accuracy = sum(run.accuracy for run in runs) / len(runs)
    return f"{middle([run.loop for run in runs]):.2f} s, accuracy {accuracy:.1%}"


def starter(data: Path, weights: Path, epochs: int, seed: int = 0, *flags: str) -> Run:
    """The loop that tutorials start from, as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.starter_loop", str(data), str(weights)]
    command += [weights.stem.partition("-")[0], str(epochs), str(RATE), str(seed), *flags]
    started = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    process = time.perf_counter() - started
    answer = json.loads(result.stdout)
    # It tests itself before it ends, which is no part of the training.
    return Run(answer["seconds"], process - answer["testing"], answer["accuracy"])
