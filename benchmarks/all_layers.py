"""Fine-tuning every layer, or the last stage, on a CPU: other loops, and Kennel.

Each is timed with all that it does once.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import kennel
from benchmarks.kennel import ROOT, Run
from benchmarks.photographs import write_photographs
from benchmarks.pretraining import pretrained_weights
from benchmarks.table import Row, middle

CLASSES = 8
RATE = 0.02
LAYER4 = "Kennel, trainable=layer4"
FLAGS = ("--optimizer=sgd", "--batch-size=32", f"--lr={RATE}", "--profile=false")


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """All loops in alternation, on the same images from the same weights."""
    images, epochs, rounds = (64, 1, 1) if quick else (512, 3, 3)
    data = scratch / "data"
    for number, (split, count) in enumerate(
        (("train", images), ("validation", 16), ("held_out", 16 if quick else 400))
    ):
        write_photographs(data / split, classes=CLASSES, images=count, seed=number)
    weights = pretrained_weights(scratch, "resnet18", data, quick=quick)
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
        LAYER4: partial(kennel.train, scratch, data, weights, *flags, "--trainable=layer4"),
    }
    runs: dict[str, list[Run]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            runs[name].append(loop())
    return compare(runs, images, epochs)


def compare(runs: Mapping[str, list[Run]], images: int, epochs: int) -> list[Row]:
    """A row for each loop, its ratio by the processor's time, which other programs move least."""
    baseline, fast, *_ = runs.values()
    rows = []
    for name, each in runs.items():
        what = f"resnet18, {images} images, {epochs} epochs: {name}"
        figure = _figure(each, images * epochs)
        if each not in (baseline, fast):
            figure += f"; {_ratio(fast, each):.1f} x timm's best flags"
        if each is not baseline and epochs > 1:
            figure += f"; the last epoch {_last(baseline) / _last(each):.1f} x torchvision's"
        rows.append(Row(what, figure, _ratio(baseline, each)))
    return rows


def _ratio(baseline: list[Run], runs: list[Run]) -> float:
    pairs = zip(baseline, runs, strict=True)
    return middle([a.loop_processor / b.loop_processor for a, b in pairs])


def _last(runs: list[Run]) -> float:
    return middle([run.last_epoch for run in runs])


def _figure(runs: list[Run], images: int) -> str:
    each = 1000 * middle([run.loop_processor for run in runs]) / images
    return f"{each:.0f} ms of one processor an image; accuracy {runs[-1].accuracy:.1%}"


def _reference(data: Path, weights: Path, epochs: int, *flags: str) -> Run:
    command = [sys.executable, "-m", "benchmarks.reference_loop", str(data), str(weights)]
    command += [weights.stem.partition("-")[0], str(epochs), str(RATE), *flags]
    started = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    process = time.perf_counter() - started
    answer = json.loads(result.stdout)
    return Run(
        answer["seconds"],
        process,
        answer["accuracy"],
        loop_processor=answer["processor"],
        last_epoch=answer["last_epoch"],
    )
