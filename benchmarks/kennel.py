"""One training by `./train`: its seconds, and what its model then answers on held-out images."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.memory import PeakMemory
from container import artifact, openvino_resnet, processors

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """One training: its loop, its whole process, and its accuracy on held-out images."""

    loop: float
    process: float
    accuracy: float
    own_memory: int = 0
    """Bytes at the peak, of all its processes; without pages of mapped files."""
    memory: int = 0
    """The same with them."""
    processor: float = 0.0
    """Seconds of processors that all its processes took, whatever else the machine did."""
    loop_processor: float = 0.0
    """The same of the loop alone."""
    last_epoch: float = 0.0
    """Seconds of the last of several epochs, when all that is done once is done."""


def train(
    scratch: Path,
    data: Path,
    weights: Path,
    *flags: str,
    keep: bool = False,
    test: bool = True,
) -> Run:
    """Train on `data/train`; without `keep` no cached features are found.

    The loop's seconds are all between "resnet18 on CPU ...", with the weights loaded and no image
    read, and the last epoch: decoding, features and validation are in them.
    """
    job, cache = scratch / "job", scratch / "cache"
    architecture = weights.stem.partition("-")[0]
    shutil.rmtree(job, ignore_errors=True)
    if not keep:
        shutil.rmtree(cache, ignore_errors=True)
    channels = job / "input/data"
    (channels / "pretrained").mkdir(parents=True)
    shutil.copy(weights, channels / f"pretrained/{architecture}.pth")
    for split in ("train", "validation"):
        (channels / split).symlink_to(data / split)
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(job), "KENNEL_CACHE_DIR": str(cache)}
    children = os.times()
    started = time.perf_counter()
    training = subprocess.Popen(
        [sys.executable, ROOT / "train", f"--arch={architecture}", *flags],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    begin = before = loop_processor = 0.0
    ends: list[float] = []
    assert training.stdout
    with PeakMemory(training.pid) as peak:
        for line in training.stdout:
            if line.startswith(f"{architecture} on "):
                begin, before = time.perf_counter(), processor_seconds(training.pid)
            if line.startswith("epoch "):
                ends.append(time.perf_counter())
                loop_processor = processor_seconds(training.pid) - before
    if training.wait():
        raise RuntimeError("./train failed")
    process = time.perf_counter() - started
    share = accuracy(job / "model", data / "held_out") if test else float("nan")
    processor = sum(os.times()[2:4]) - sum(children[2:4])
    last_epoch = ends[-1] - ends[-2] if len(ends) > 1 else 0.0
    return Run(
        ends[-1] - begin,
        process,
        share,
        peak.own,
        peak.total,
        processor,
        loop_processor,
        last_epoch,
    )


def processor_seconds(process: int) -> float:
    """What a process's threads have taken so far, in the program and for it in the kernel."""
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def accuracy(model: Path, images: Path) -> float:
    """The share of right answers of an artifact, computed as serving computes them."""
    facts, tensors = artifact.load(model)
    compiled = openvino_resnet.compile_model(
        openvino_resnet.build_model(
            facts.architecture, facts.preprocessing, dict(tensors), batch=1, head=True
        ),
        precision="auto",
        threads=processors.available(),
        streams=1,
    )
    request = compiled.create_infer_request()
    right = []
    for file in images.rglob("*.jpg"):
        request.get_input_tensor().data[0] = facts.preprocessing(file.read_bytes())
        request.infer()
        best = int(np.argmax(request.get_output_tensor().data[0]))
        right.append(facts.classes[best] == file.parent.name)
    return float(np.mean(right))
