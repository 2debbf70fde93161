"""Sixteen trials on a frozen backbone: against one training, against no sharing, and Ray Tune."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import peers
from benchmarks.kennel import ROOT
from benchmarks.photographs import write_photographs
from benchmarks.table import Row
from benchmarks.weights import write_weights

CLASSES = 8
TRIALS, AT_ONCE, EPOCHS = 16, 2, 10
RANGES = ("lr=1e-4:1e-1:log", "batch-size=32,64,128")
RAY = ("ray[tune]==2.60.0", "optuna==5.0.0")


def resnet18(scratch: Path, *, quick: bool) -> list[Row]:
    """1,000 photographs, and Ray Tune beside it."""
    study = _Study(scratch, "resnet18", images=64 if quick else 1000, quick=quick)
    shared, rows = study.kennel()
    return rows if quick else rows + study.ray(shared)


def resnet50(scratch: Path, *, quick: bool) -> list[Row]:
    """The same with a network that takes longer than all that is around it."""
    return _Study(scratch, "resnet50", images=32 if quick else 1000, quick=quick).kennel()[1]


class _Study:
    """One network on generated photographs."""

    def __init__(self, scratch: Path, architecture: str, *, images: int, quick: bool) -> None:
        self.scratch = scratch
        self.architecture = architecture
        self.trials, self.epochs = (2, 1) if quick else (TRIALS, EPOCHS)
        self.name = f"{architecture}, {images} images, {self.epochs} epochs"
        self.data = scratch / "data"
        for number, (split, count) in enumerate((("train", images), ("validation", 16))):
            write_photographs(self.data / split, classes=CLASSES, images=count, seed=number)
        weights = scratch / f"{architecture}.pth"
        self.weights = write_weights(weights, architecture, self.data / "train")

    def kennel(self) -> tuple[float, list[Row]]:
        """The seconds of a tuning, and its rows."""
        given = ["--data", str(self.data), "--pretrained", str(self.weights)]
        given += ["--set", f"arch={self.architecture}", f"epochs={self.epochs}"]
        one = _launch(self.scratch, "train", *given)
        search = ["--range", *RANGES, "--jobs", str(self.trials), "--parallel", str(AT_ONCE)]
        shared = _launch(self.scratch, "tune", *given, *search, "--no-early-stopping")
        apart = _apart(self.scratch, given) * self.trials / AT_ONCE
        trials = f"{self.name}: {self.trials} trials"
        return shared, [
            Row(f"{self.name}: one training, nothing computed before", f"{one:.1f} s"),
            Row(
                f"{trials} that share nothing, {self.trials // AT_ONCE} times two side by side",
                f"{apart:.0f} s, {apart / one:.1f} times one training",
            ),
            Row(
                f"{trials} by launch.py tune, nothing computed before",
                f"{shared:.1f} s, {shared / one:.2f} times one training",
                apart / shared,
            ),
        ]

    def ray(self, shared: float) -> list[Row]:
        """Ray Tune's rows, beside the seconds of Kennel's tuning."""
        problem = peers.install(peers.CACHE / "raytune", RAY)
        if problem is not None:
            return [Row("Ray Tune is left out", problem)]
        told = [str(self.data), str(self.weights), self.architecture]
        times = self.trials * self.epochs // AT_ONCE
        plain = _ray(*told, "1", str(AT_ONCE), "plain") * times
        tuned = _ray(*told, str(self.epochs), str(self.trials), "features")
        trials = f"{self.name}: {self.trials} trials by Ray Tune"
        return [
            Row(
                f"{trials} of the tutorials' loop, {times} times one epoch of two trials",
                f"{plain:.0f} s, {plain / shared:.1f} times launch.py tune",
            ),
            Row(
                f"{trials} of a head alone, on features computed once by hand",
                f"{tuned:.1f} s, {tuned / shared:.2f} times launch.py tune",
            ),
        ]


def _launch(scratch: Path, *arguments: str) -> float:
    """Seconds of one `./launch.py` that finds no features of earlier ones."""
    shutil.rmtree(scratch / "cache", ignore_errors=True)
    started = time.perf_counter()
    with _launched(scratch, scratch / "cache", arguments) as process:
        _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"./launch.py {arguments[0]} failed: {errors[-2000:]}")
    return time.perf_counter() - started


def _apart(scratch: Path, given: Sequence[str]) -> float:
    """Seconds of as many trainings side by side as a tuning runs, each with a cache of its own."""
    started = time.perf_counter()
    share = str(max(1, (os.cpu_count() or 1) // AT_ONCE))
    processes = [
        _launched(scratch / f"apart-{n}", scratch / f"cache-{n}", ["train", *given], share)
        for n in range(AT_ONCE)
    ]
    for process in processes:
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"./launch.py train failed: {errors[-2000:]}")
    return time.perf_counter() - started


def _launched(
    place: Path, cache: Path, arguments: Sequence[str], threads: str = ""
) -> "subprocess.Popen[str]":
    place.mkdir(exist_ok=True)
    environment = os.environ | {"KENNEL_CACHE_DIR": str(cache), "KENNEL_ON": "process"}
    if threads:
        environment["OMP_NUM_THREADS"] = threads
    return subprocess.Popen(
        [sys.executable, ROOT / "launch.py", *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ray(*arguments: str) -> float:
    """Seconds of one program that tunes with Ray, from its start to its end."""
    python = peers.CACHE / "raytune/bin/python"
    started = time.perf_counter()
    done = subprocess.run(
        [python, peers.HERE / "ray_tuner.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Ray Tune failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["trials"] == int(arguments[4]), found
    return time.perf_counter() - started
