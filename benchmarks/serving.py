"""Serving ResNet-18 on this machine's CPU: Kennel, a plain Flask server, and the bare engine."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import torch

from benchmarks.load import measure
from benchmarks.photographs import write_photographs
from benchmarks.table import Row, middle
from container import artifact, model, openvino_resnet, processors
from container.images import Preprocessing

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 133
PREPROCESSING = Preprocessing()


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Requests per second at 1, 4 and 16 clients, in alternation."""
    torch.manual_seed(0)
    network = model.build_resnet("resnet18", CLASSES).eval()
    torch.save(network.state_dict(), scratch / "resnet18.pth")
    model.save(
        network,
        scratch / "job/model",
        architecture="resnet18",
        classes=[f"{number:03d}" for number in range(CLASSES)],
        preprocessing=PREPROCESSING,
        hyperparameters={},
        metrics={},
        data={},
    )
    photographs = write_photographs(scratch / "photographs", classes=1, images=1)
    body = next(photographs.rglob("*.jpg")).read_bytes()
    seconds, rounds = (2.0, 1) if quick else (8.0, 3)
    rows: list[Row] = []
    bare = middle([_bare(scratch / "job/model", body, seconds) for _ in range(rounds)])
    rows.append(Row("bare loop: decode and forward, no HTTP", f"{bare:.0f} images/s"))
    for clients in (1, 4) if quick else (1, 4, 16):
        plain, kennel = [], []
        for _ in range(rounds):
            with _plain(scratch) as port:
                plain.append(measure(port, body, clients=clients, seconds=seconds))
            with _kennel(scratch) as port:
                kennel.append(measure(port, body, clients=clients, seconds=seconds))
        baseline = middle([each.per_second for each in plain])
        for name, loads in (("plain Flask, 2 workers of torch", plain), ("Kennel", kennel)):
            rate = middle([each.per_second for each in loads])
            p99 = middle([each.p99_milliseconds for each in loads])
            ratio = rate / baseline if name == "Kennel" else None
            rows.append(Row(f"{name}, {clients} clients", f"{rate:.0f}/s, p99 {p99:.0f} ms", ratio))
        best = middle([each.per_second for each in kennel])
        rows.append(Row(f"Kennel against the bare loop, {clients} clients", f"{best / bare:.0%}"))
    return rows


def _bare(directory: Path, body: bytes, seconds: float) -> float:
    """Images per second of the engine's own arithmetic on all cores, one after the other."""
    facts, weights = artifact.load(directory)
    compiled = openvino_resnet.compile_model(
        openvino_resnet.build_model(
            facts.architecture, facts.preprocessing, dict(weights), batch=1, head=True
        ),
        precision="auto",
        threads=processors.available(),
        streams=1,
    )
    request = compiled.create_infer_request()
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        request.get_input_tensor().data[0] = PREPROCESSING(body)
        request.infer()
        count += 1
    return count / seconds


@contextmanager
def _plain(scratch: Path) -> Iterator[int]:
    port = _free_port()
    command = ["-m", "gunicorn", "--workers=2", f"--bind=127.0.0.1:{port}", "--log-level=error"]
    weights = str(scratch / "resnet18.pth")
    with _server([*command, "benchmarks.plain_server:app"], port, PLAIN_WEIGHTS=weights):
        yield port


@contextmanager
def _kennel(scratch: Path) -> Iterator[int]:
    port = _free_port()
    variables = {"SAGEMAKER_BASE_DIR": str(scratch / "job"), "SAGEMAKER_BIND_TO_PORT": str(port)}
    with _server([str(ROOT / "serve")], port, **variables):
        yield port


@contextmanager
def _server(arguments: list[str], port: int, **variables: str) -> Iterator[None]:
    server = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not _is_healthy(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(arguments)} did not start")
            time.sleep(0.05)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as answer:
            return bool(answer.status == http.client.OK)
    except (URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
