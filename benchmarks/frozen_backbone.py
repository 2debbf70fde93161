"""Training the head on a frozen backbone: the loop that tutorials start from, and Kennel."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
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
    for split, count in (("train", images), ("validation", 16), ("test", 64)):
        write_photographs(data / split, classes=CLASSES, images=count)
    rows: list[Row] = []
    plan = {"resnet18": (3,)} if quick else {"resnet18": (3, 10), "resnet50": (3,)}
    for architecture, all_epochs in plan.items():
        bench = Bench(scratch, data, scratch / f"{architecture}.pth", architecture)
        torch.manual_seed(0)
        torch.save(get_model(architecture).state_dict(), bench.weights)
        for epochs in all_epochs:
            pairs = [
                (bench.starter(epochs), bench.kennel(epochs))
                for _ in range(rounds if (architecture, epochs) == ("resnet18", 3) else 1)
            ]
            rows += _compare(f"{architecture}, {images} images, {epochs} epochs", pairs)
        again = bench.kennel(10, "--lr=0.01", keep=True)
        name = f"{architecture}: Kennel again with another learning rate, 10 epochs"
        rows.append(Row(name, f"{again.loop:.2f} s"))
    return rows


def _compare(name: str, pairs: list[tuple[Run, Run]]) -> list[Row]:
    starters, kennels = zip(*pairs, strict=True)
    loop = middle([starter.loop / kennel.loop for starter, kennel in pairs])
    process = middle([starter.process / kennel.process for starter, kennel in pairs])
    whole = middle([kennel.process for kennel in kennels])
    return [
        Row(f"{name}: starter loop", _figure(starters)),
        Row(f"{name}: Kennel, loop against loop", _figure(kennels), loop),
        Row(f"{name}: Kennel, whole processes", f"{whole:.1f} s", process),
    ]


def _figure(runs: Sequence[Run]) -> str:
    accuracy = middle([each.accuracy for each in runs])
    return f"{middle([each.loop for each in runs]):.2f} s, accuracy {accuracy:.0%}"


@dataclass(frozen=True)
class Bench:
    """Both programs, on the same images with the same weights."""

    scratch: Path
    data: Path
    weights: Path
    architecture: str

    def starter(self, epochs: int) -> Run:
        """The loop that tutorials start from."""
        command = [sys.executable, "-m", "benchmarks.starter_loop", str(self.data)]
        command += [str(self.weights), self.architecture, str(epochs)]
        started = time.perf_counter()
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        process = time.perf_counter() - started
        answer = json.loads(result.stdout)
        return Run(answer["seconds"], process, answer["accuracy"])

    def kennel(self, epochs: int, *more: str, keep: bool = False) -> Run:
        """`./train`; without `keep` it finds no cached features."""
        job, cache = self.scratch / "job", self.scratch / "cache"
        shutil.rmtree(job, ignore_errors=True)
        if not keep:
            shutil.rmtree(cache, ignore_errors=True)
        channels = job / "input/data"
        (channels / "pretrained").mkdir(parents=True)
        shutil.copy(self.weights, channels / "pretrained")
        for split in ("train", "validation", "test"):
            (channels / split).symlink_to(self.data / split)
        environment = os.environ | {"SAGEMAKER_BASE_DIR": str(job), "KENNEL_CACHE_DIR": str(cache)}
        flags = [f"--arch={self.architecture}", f"--epochs={epochs}", "--lr=0.003", *more]
        started = time.perf_counter()
        training = subprocess.Popen(
            [sys.executable, ROOT / "train", *flags],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert training.stdout
        # From "Frozen layers by …", with weights loaded and no image read, to "Saved the model".
        marks: dict[str, float] = {}
        for line in training.stdout:
            marks.setdefault(line.split(" ")[0], time.perf_counter())
        if training.wait():
            raise RuntimeError("./train failed")
        process = time.perf_counter() - started
        facts = json.loads((job / "model/model.json").read_text())
        return Run(marks["Saved"] - marks["Frozen"], process, facts["metrics"]["test:accuracy"])
