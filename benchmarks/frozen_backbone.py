"""Training the head on a frozen backbone: the loop that tutorials start from, and Kennel."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.models import get_model

from benchmarks.photographs import write_photographs
from benchmarks.table import Row, middle

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 8


@dataclass(frozen=True)
class Run:
    """One training: its loop, its whole process, and its accuracy on held-out images."""

    loop: float
    process: float
    accuracy: float


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Compare 3 and 10 epochs; both see the same images and the same weights.

    The weights are random, since ImageNet's are a download: they cost what ImageNet's cost, and
    the classes' textures can be told apart even by random features.
    """
    images, rounds = (64, 1) if quick else (256, 3)
    data = scratch / "data"
    write_photographs(data / "train", classes=CLASSES, images=images)
    write_photographs(data / "validation", classes=CLASSES, images=16)
    write_photographs(data / "test", classes=CLASSES, images=64)
    rows: list[Row] = []
    for architecture in ("resnet18",) if quick else ("resnet18", "resnet50"):
        weights = scratch / f"{architecture}.pth"
        torch.manual_seed(0)
        torch.save(get_model(architecture).state_dict(), weights)
        for epochs in (3,) if quick else (3, 10):
            pairs = []
            for _ in range(rounds if epochs == 3 else 1):
                pairs.append((_starter(data, weights, architecture, epochs), _kennel(scratch, data, weights, architecture, epochs)))
            starters, kennels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            loop = middle([starter.loop / kennel.loop for starter, kennel in pairs])
            process = middle([starter.process / kennel.process for starter, kennel in pairs])
            name = f"{architecture}, {images} images, {epochs} epochs"
            rows += [
                Row(f"{name}: starter loop", _figure(starters)),
                Row(f"{name}: Kennel, loop against loop", _figure(kennels), loop),
                Row(f"{name}: Kennel, process against process", f"{middle([k.process for k in kennels]):.1f} s", process),
            ]
        again = _kennel(scratch, data, weights, architecture, 10, "--lr=0.01", keep=True)
        rows.append(Row(f"{architecture}: Kennel again, another learning rate, 10 epochs", f"{again.loop:.2f} s"))
    return rows


def _figure(runs: list[Run]) -> str:
    accuracy = middle([each.accuracy for each in runs])
    return f"{middle([each.loop for each in runs]):.2f} s, accuracy {accuracy:.0%}"


def _starter(data: Path, weights: Path, architecture: str, epochs: int) -> Run:
    command = [sys.executable, "-m", "benchmarks.starter_loop", data, weights, architecture, str(epochs)]
    started = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    process = time.perf_counter() - started
    answer = json.loads(result.stdout)
    return Run(answer["seconds"], process, answer["accuracy"])


def _kennel(
    scratch: Path, data: Path, weights: Path, architecture: str, epochs: int, *more: str, keep: bool = False
) -> Run:
    """Run `./train`; without `keep` it finds no cached features."""
    job, cache = scratch / "job", scratch / "cache"
    shutil.rmtree(job, ignore_errors=True)
    if not keep:
        shutil.rmtree(cache, ignore_errors=True)
    channels = job / "input/data"
    channels.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        (channels / split).symlink_to(data / split)
    (channels / "pretrained").mkdir()
    shutil.copy(weights, channels / "pretrained")
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(job), "KENNEL_CACHE_DIR": str(cache)}
    flags = [f"--arch={architecture}", f"--epochs={epochs}", "--lr=0.003", *more]
    started = time.perf_counter()
    training = subprocess.Popen(
        [sys.executable, ROOT / "train", *flags],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert training.stdout
    # The loop begins where the starter's does: with weights loaded and the first image unread.
    marks = {}
    for line in training.stdout:
        marks[line.split(" ")[0]] = time.perf_counter()
    if training.wait():
        raise RuntimeError("./train failed")
    process = time.perf_counter() - started
    facts = json.loads((job / "model/model.json").read_text())
    return Run(marks["Saved"] - marks["Features"], process, facts["metrics"]["test:accuracy"])
