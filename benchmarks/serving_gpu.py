"""Serving ResNet-50 on a GPU: the whole way through HTTP against batches that lie on the GPU.

Not yet run where there is a GPU; elsewhere it measures nothing and says so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.load import measure
from benchmarks.serving import CLASSES, PREPROCESSING, write_artifact
from benchmarks.serving_processes import Server, kennel
from benchmarks.table import Row, middle
from container import artifact, processors
from container.serving.engines.cuda_graphs import GraphRecorder
from container.serving.engines.torch_engine import BATCH, TorchEngine

CLIENTS = (16, 64)
SMALL_BATCHES = (1, 8)


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Requests per second, and the engine's own images per second with graphs and without."""
    if not torch.cuda.is_available():
        return [Row("resnet50, serving on a GPU", "not run: this machine has no GPU")]
    seconds, rounds = (1.0, 1) if quick else (3.0, 3)
    write_artifact(scratch, "resnet50")
    body = next((scratch / "photographs").rglob("*.jpg")).read_bytes()
    with_graphs = _engine(scratch / "job/model", graphs=True)
    without = _engine(scratch / "job/model", graphs=False)
    resident = _resident(with_graphs)
    raw: list[float] = []
    rates: dict[tuple[int, TorchEngine], list[float]] = {
        (size, engine): [] for size in SMALL_BATCHES for engine in (without, with_graphs)
    }
    served: dict[int, list[_Served]] = {clients: [] for clients in CLIENTS}
    for _ in range(rounds):
        raw.append(_rate(resident, BATCH, seconds))
        for (size, engine), measured in rates.items():
            measured.append(_rate(_from_memory(engine, size), size, seconds))
        with kennel(scratch, body, "auto", KENNEL_ENGINE="torch") as server:
            for clients, loads in served.items():
                loads.append(_serve(server, body, clients, seconds))
    name = torch.cuda.get_device_name()
    rows = [Row(f"resnet50: batches of {BATCH} that lie on the {name}", f"{middle(raw):.0f}/s")]
    for (size, engine), measured in rates.items():
        ratio = None if engine is without else middle(measured) / middle(rates[size, without])
        what = f"resnet50: {engine.name}, batches of {size} from memory and back"
        rows.append(Row(what, f"{middle(measured):.0f}/s", ratio))
    for clients, loads in served.items():
        share = middle([load.rate / most for load, most in zip(loads, raw, strict=True)])
        figure = (
            f"{middle([load.rate for load in loads]):.0f}/s, "
            f"p99 {middle([load.p99 for load in loads]):.0f} ms, {share:.0%} of the batches on the "
            f"GPU; {middle([load.processor for load in loads]):.2f} ms of a processor a request"
        )
        rows.append(Row(f"resnet50: Kennel through HTTP, {clients} clients", figure))
    return rows


@dataclass(frozen=True)
class _Served:
    """What a server did under one load."""

    rate: float
    p99: float
    """Milliseconds."""
    processor: float
    """Milliseconds for a request, of all the server's processors together."""


def _serve(server: Server, body: bytes, clients: int, seconds: float) -> _Served:
    before = server.processor_seconds()
    load = measure(server.port, body, clients=clients, seconds=seconds)
    used = server.processor_seconds() - before
    return _Served(load.per_second, load.p99_milliseconds, 1000 * used / load.answered)


def _engine(directory: Path, *, graphs: bool) -> TorchEngine:
    facts, weights = artifact.load(directory)
    return TorchEngine(facts, dict(weights), "auto", 0, processors.available(), graphs=graphs)


def _resident(engine: TorchEngine) -> Callable[[], None]:
    """One batch of the largest size, again and again; nothing is sent to the GPU or back."""
    side = PREPROCESSING.image_size
    device = torch.device("cuda", 0)
    images = torch.randint(0, 256, (BATCH, side, side, 3), dtype=torch.uint8, device=device)
    scores = torch.empty(BATCH, CLASSES, device=device)
    recorder = GraphRecorder(device)

    def work() -> None:
        scores.copy_(engine.forward(images))

    with recorder.turn(), torch.inference_mode():
        replay = recorder.record(work)

    def repeat() -> None:
        with recorder.turn():
            replay()
            torch.cuda.current_stream().synchronize()

    return repeat


def _from_memory(engine: TorchEngine, size: int) -> Callable[[], None]:
    """The engine as a server uses it: images in memory, and their scores too."""
    side = PREPROCESSING.image_size
    images = np.random.default_rng(0).integers(0, 256, (size, side, side, 3), np.uint8)

    def score() -> None:
        engine.scores(images)

    return score


def _rate(batch: Callable[[], None], size: int, seconds: float) -> float:
    """Images per second."""
    batch()
    batches, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        batch()
        batches += 1
    return batches * size / passed
