"""Kennel under ten times the clients that fill it, and its memory through many requests."""

from pathlib import Path

import numpy as np

from benchmarks.load import measure
from benchmarks.serving import write_artifact
from benchmarks.serving_processes import kennel
from benchmarks.table import Row
from container.images import Preprocessing

FILLING = 16
"""Clients that keep every processor busy."""
TIMES = 10


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Answers and refusals under overload, and the memory before and after many requests."""
    seconds, requests = (2.0, 500) if quick else (15.0, 100_000)
    write_artifact(scratch / "full", "resnet18")
    body = next((scratch / "full/photographs").rglob("*.jpg")).read_bytes()
    with kennel(scratch / "full", body, "int8") as server:
        peak = measure(server.port, body, clients=FILLING, seconds=seconds).per_second
        load = measure(server.port, body, clients=FILLING * TIMES, seconds=seconds, refusals=True)
    what = f"ResNet-18, int8, {FILLING * TIMES} clients"
    refusals = np.array(load.refusals or [0.0])
    return [
        Row(f"ResNet-18, int8, {FILLING} clients", f"{peak:.0f}/s"),
        Row(what, f"{load.per_second:.0f}/s", load.per_second / peak),
        Row(
            f"{what}: refused with 503 and Retry-After, which the clients heed",
            f"{len(load.refusals) / seconds:.0f}/s, after {np.median(refusals):.0f} ms "
            f"(p99 {np.percentile(refusals, 99):.0f} ms)",
        ),
        _memory(scratch / "small", requests),
    ]


def _memory(scratch: Path, requests: int) -> Row:
    write_artifact(scratch, "resnet18", Preprocessing.for_image_size(32))
    body = next((scratch / "photographs").rglob("*.jpg")).read_bytes()
    with kennel(scratch, body, "float32") as server:
        measure(server.port, body, clients=FILLING, seconds=1)  # its buffers fill once
        before, done = server.memory(), 0
        while done < requests:
            done += measure(server.port, body, clients=FILLING, seconds=2).answered
        after = server.memory()
    return Row(
        f"memory through {done} requests, 500 x 375 JPEG, network of 32 pixels",
        f"{before:.0f} MB before, {after:.0f} MB after (PSS)",
    )
