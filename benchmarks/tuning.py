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
from benchmarks.frozen_backbone import photographs
from benchmarks.kennel import ROOT
from benchmarks.table import Row
from benchmarks.weights import write_weights

TRIALS, AT_ONCE, EPOCHS = 16, 2, 10
RANGES = ("lr=1e-4:1e-1:log", "batch-size=32,64,128")
RAY = ("ray[tune]==2.60.0", "optuna==5.0.0")


def resnet18(scratch: Path, *, quick: bool) -> list[Row]:
    """1,000 photographs, and Ray Tune beside it."""
    return _compare(scratch, "resnet18", images=64 if quick else 1000, quick=quick, beside_ray=True)


def resnet50(scratch: Path, *, quick: bool) -> list[Row]:
    """The same with a network that takes longer than all that is around it."""
    return _compare(
        scratch, "resnet50", images=32 if quick else 1000, quick=quick, beside_ray=False
    )


def _compare(
    scratch: Path, architecture: str, *, images: int, quick: bool, beside_ray: bool
) -> list[Row]:
    trials, epochs = (2, 1) if quick else (TRIALS, EPOCHS)
    data = photographs(scratch, images)
    weights = write_weights(scratch / f"{architecture}.pth", architecture, data / "train")
    given = ["--data", str(data), "--pretrained", str(weights)]
    given += ["--set", f"arch={architecture}", f"epochs={epochs}"]

    one = _launch(scratch, "train", *given)
    search = ["--range", *RANGES, "--jobs", str(trials), "--parallel", str(AT_ONCE)]
    shared = _launch(scratch, "tune", *given, *search, "--no-early-stopping")
    apart = _apart(scratch, given) * trials / AT_ONCE
    name = f"{architecture}, {images} images, {epochs} epochs"
    rows = [
        Row(f"{name}: one cold training", f"{one:.1f} s"),
        Row(f"{name}: {trials} cold trials", f"{shared:.1f} s, {shared / one:.2f} times that"),
        Row(
            f"{name}: without sharing, {trials // AT_ONCE} times two trainings side by side",
            f"{apart:.0f} s",
            apart / shared,
        ),
    ]
    if not beside_ray or (quick and not (peers.CACHE / "raytune/installed").exists()):
        return rows
    problem = peers.install(peers.CACHE / "raytune", RAY)
    if problem is not None:
        return [*rows, Row("Ray Tune is left out", problem)]
    told = [str(data), str(weights), architecture]
    plain = _ray(*told, "1", str(AT_ONCE), "plain") * trials * epochs / AT_ONCE
    tuned = _ray(*told, str(epochs), str(trials), "features")
    return [
        *rows,
        Row(
            f"{name}: Ray Tune over the tutorials' loop, {trials * epochs // AT_ONCE} times one "
            "epoch of two trials",
            f"{plain:.0f} s",
            plain / shared,
        ),
        Row(
            f"{name}: Ray Tune over a head on features computed once, no artifacts or reports",
            f"{tuned:.1f} s",
            tuned / shared,
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
