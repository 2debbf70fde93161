"""What one more image costs, stage by stage: `python -m benchmarks.scale` writes scale.json.

Costs of the processor are its own time on one core, so that other programs disturb them little.
The stages whose cost might not be a straight line are measured at several sizes, on as many
hard links to a few photographs as there are to be images.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from benchmarks.kennel import ROOT
from benchmarks.photographs import write_photographs
from benchmarks.table import describe_machine
from benchmarks.weights import write_weights
from container import model, openvino_resnet, torch_resnet
from container.hyperparameters import Hyperparameters
from container.images import Preprocessing
from container.training import dataset
from container.training.backbone import BATCH_SIZE_ON_A_CPU
from container.training.feature_store import StoredRows

RESULTS = Path(__file__).with_name("scale.json")
PHOTOGRAPHS = 100
SIZES = (1_000, 10_000, 100_000)
CLASSES = (10, 133, 1000)
FEWER, MORE = 100, 500
"""Images of two whole trainings, whose difference is what further images cost."""


def main() -> None:
    """Measure everything, one thread at a time."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="kennel-scale-") as scratch:
        photographs = write_photographs(Path(scratch, "few"), classes=10, images=PHOTOGRAPHS)
        files = sorted(photographs.rglob("*.jpg"))
        measured: dict[str, Any] = {
            "machine": describe_machine(),
            "date": str(date.today()),
            "kilobytes": sum(path.stat().st_size for path in files) / len(files) / 1e3,
            "decode_ms": _each(files, Preprocessing().__call__),
            "digest_ms": _each(files, lambda data: hashlib.sha256(data).digest()),
            "forward_ms": {
                f"{architecture} {size}": _forward(architecture, size)
                for architecture in ("resnet18", "resnet50")
                for size in (224, 320)
            },
            "whole_ms": _whole(Path(scratch), files),
            "listing": [_listing(Path(scratch, str(n)), files, n) for n in SIZES],
            "index": [_index(n) for n in SIZES],
            "head_us": {
                f"{features} features, {classes} classes": _head(features, classes)
                for features in (512, 2048)
                for classes in CLASSES
            },
        }
    RESULTS.write_text(json.dumps(measured, indent=2) + "\n")


def _each(files: list[Path], work: Callable[[bytes], object]) -> float:
    """Milliseconds for each file, all of them once to warm up."""
    contents = [path.read_bytes() for path in files]
    for data in contents:
        work(data)
    started = time.process_time()
    for data in contents:
        work(data)
    return (time.process_time() - started) * 1e3 / len(contents)


def _forward(architecture: str, size: int, batches: int = 8) -> float:
    """Milliseconds of one core for each view that the frozen layers see."""
    preprocessing = Preprocessing.for_image_size(size)
    graph = openvino_resnet.build_model(
        architecture,
        preprocessing,
        model.as_arrays(torch_resnet.build(architecture, 2)),
        batch=BATCH_SIZE_ON_A_CPU,
        head=False,
    )
    compiled = openvino_resnet.compile_model(graph, precision="auto", threads=1, streams=1)
    request = compiled.create_infer_request()
    request.get_input_tensor().data[:] = 127
    request.infer()
    started = time.process_time()
    for _ in range(batches):
        request.infer()
    return (time.process_time() - started) * 1e3 / (batches * BATCH_SIZE_ON_A_CPU)


def _whole(scratch: Path, files: list[Path]) -> float:
    """Milliseconds of one core for each further image of a whole training of a head, one epoch."""
    weights = write_weights(scratch / "resnet18.pth", "resnet18", files[0].parents[1])
    took = []
    for number, count in enumerate((FEWER, MORE)):
        job = scratch / f"job-{count}"
        write_photographs(job / "input/data/train", classes=10, images=count, seed=number)
        (job / "input/data/pretrained").mkdir()
        os.link(weights, job / "input/data/pretrained/resnet18.pth")
        paths = {"SAGEMAKER_BASE_DIR": str(job), "KENNEL_CACHE_DIR": str(job / "cache")}
        flags = ("--epochs=1", "--int8-loss=0", "--profile=false", "--test-split=0")
        before = _processor_seconds()
        command = [sys.executable, str(ROOT / "train"), *flags]
        subprocess.run(command, env=os.environ | paths, check=True, capture_output=True)
        took.append(_processor_seconds() - before)
    return (took[1] - took[0]) * 1e3 / (MORE - FEWER)


def _processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _listing(directory: Path, files: list[Path], count: int) -> dict[str, float]:
    """Seconds to find so many files, and bytes that each takes in memory."""
    for index in range(count):
        folder = directory / "train" / f"{index % 100:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(files[index % len(files)], folder / f"{index:07d}.jpg")
    before, started = _memory(), time.process_time()
    found = dataset.find({"train": directory / "train"}, Hyperparameters(), directory / "unpacked")
    found.digest()
    seconds = time.process_time() - started
    return {"images": count, "seconds": seconds, "bytes": (_memory() - before) / count}


def _index(count: int) -> dict[str, float]:
    """The same for the index of a cache with so many rows."""
    started = time.process_time()
    _fill(count)
    seconds = time.process_time() - started
    tracemalloc.start()
    kept = _fill(count)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(kept.positions) == count
    return {"images": count, "seconds": seconds, "bytes": size / count}


def _fill(count: int) -> StoredRows:
    rows = StoredRows()
    keys = [(hashlib.sha256(b"%d" % index).digest(), "plain") for index in range(count)]
    rows.add(keys, torch.empty(count, 0))
    return rows


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _head(features: int, classes: int, images: int = 6400, batch: int = 64) -> float:
    """Microseconds of one core for each image and epoch of a head's training."""
    head = nn.Linear(features, classes)
    optimizer = torch.optim.AdamW(head.parameters(), fused=True)
    criterion = nn.CrossEntropyLoss()
    rows, labels = torch.randn(images, features), torch.randint(classes, (images,))
    order = torch.from_numpy(np.random.default_rng(0).permutation(images))
    started = time.process_time()
    for start in range(0, images, batch):
        chosen = order[start : start + batch]
        loss = criterion(head(rows[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.process_time() - started) * 1e6 / images


if __name__ == "__main__":
    main()
