"""Serving ResNet-18 on this machine's CPU: Kennel, a plain Flask server, and the bare engine."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError

import torch

from benchmarks.load import Load, measure
from benchmarks.peers import PEERS, Peer
from benchmarks.photographs import write_photographs
from benchmarks.table import Row, middle
from container import artifact, model, openvino_resnet, processors
from container.images import Preprocessing
from container.stopping import StopSignal
from container.training.dataset import Split
from container.training.decoded import decode_split
from container.training.quantization import quantize

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 133
PREPROCESSING = Preprocessing()


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Requests per second at 1, 4 and 16 clients, in alternation."""
    _write_artifact(scratch)
    return _compare(scratch, quick=quick, peers=())


def run_with_peers(scratch: Path, *, quick: bool) -> list[Row]:
    """The same beside other servers, which are installed in the user's cache first."""
    _write_artifact(scratch)
    usable, rows = [], []
    for peer in PEERS:
        problem = peer.install()
        if problem is None:
            try:
                with _peer(peer, scratch):
                    usable.append(peer)
            except RuntimeError as error:
                problem = str(error)
        if problem is not None:
            rows.append(Row(f"{peer.name} is left out", problem))
    return _compare(scratch, quick=quick, peers=usable) + rows


def _compare(scratch: Path, *, quick: bool, peers: Sequence[Peer]) -> list[Row]:
    body = next((scratch / "photographs").rglob("*.jpg")).read_bytes()
    seconds, rounds = (2.0, 1) if quick else (4.0, 2)
    servers: dict[str, Callable[[], AbstractContextManager[_Target]]] = {
        "plain Flask, 2 workers of torch": partial(_plain, scratch),
        **{
            f"{peer.packages[0].replace('==', ' ')}": partial(_peer, peer, scratch)
            for peer in peers
        },
        "Kennel, float32": partial(_kennel, scratch, "float32"),
        "Kennel, bfloat16": partial(_kennel, scratch, "bfloat16"),
        "Kennel, int8": partial(_kennel, scratch, "int8"),
    }
    capabilities = (
        openvino_resnet.import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    )
    if "BF16" not in capabilities:
        del servers["Kennel, bfloat16"]
    counts = (1, 4) if quick else (1, 4, 16)
    loads: dict[tuple[str, int], list[Load]] = defaultdict(list)
    for _ in range(rounds):
        for name, start in servers.items():
            with start() as target:
                request, kind = target.request(body)
                for clients in counts:
                    load = measure(
                        target.port,
                        request,
                        clients=clients,
                        seconds=seconds,
                        content_type=kind,
                        path=target.path,
                    )
                    loads[name, clients].append(load)
    rows = []
    for clients in counts:
        rates = {
            name: middle([each.per_second for each in loads[name, clients]]) for name in servers
        }
        best = max(rate for name, rate in rates.items() if not name.startswith("Kennel"))
        for name, rate in rates.items():
            p99 = middle([each.p99_milliseconds for each in loads[name, clients]])
            ratio = rate / best if name.startswith("Kennel") else None
            rows.append(Row(f"{name}, {clients} clients", f"{rate:.0f}/s, p99 {p99:.0f} ms", ratio))
        for name, precision in (("bfloat16", "bfloat16"), ("int8", "int8")):
            kennel = next((r for n, r in rates.items() if n.startswith(f"Kennel, {name}")), None)
            if kennel is not None:
                bare = _bare(scratch / "job/model", body, precision, clients, seconds)
                what = (
                    f"Kennel, {name}, against decoding and scoring without HTTP, {clients} clients"
                )
                rows.append(Row(what, f"{kennel / bare:.0%} of {bare:.0f}/s"))
    return rows


def _write_artifact(scratch: Path) -> None:
    """Random weights, with an int8 form whatever it loses."""
    torch.manual_seed(0)
    network = model.build_resnet("resnet18", CLASSES).eval()
    torch.save(network.state_dict(), scratch / "weights.pth")
    photographs = write_photographs(scratch / "photographs", classes=1, images=8)
    paths = tuple(sorted(photographs.rglob("*.jpg")))
    images = decode_split(
        Split(paths, (0,) * len(paths)), PREPROCESSING.resize_size, "Decoding", StopSignal()
    )
    model.save(
        network,
        scratch / "job/model",
        architecture="resnet18",
        classes=[f"{number:03d}" for number in range(CLASSES)],
        preprocessing=PREPROCESSING,
        hyperparameters={},
        metrics={},
        data={},
        int8=quantize(network, "resnet18", PREPROCESSING, images, images, 100),
    )


def _bare(directory: Path, body: bytes, precision: str, clients: int, seconds: float) -> float:
    """Images per second of the engine itself, from a file's bytes to the scores: by all processors
    together for one client, and by a thread on each for several.
    """
    facts, weights = artifact.load(directory)
    if precision == "int8" and facts.int8:
        weights = artifact.load_int8(directory, facts.int8)
    processes = processors.available()
    lanes = 1 if clients == 1 else processes
    compiled = openvino_resnet.compile_model(
        openvino_resnet.build_model(
            facts.architecture, facts.preprocessing, dict(weights), batch=1, head=True
        ),
        precision=precision,
        threads=processes,
        streams=lanes,
    )
    end = time.perf_counter() + seconds

    def lane() -> int:
        request = compiled.create_infer_request()
        count = 0
        while time.perf_counter() < end:
            request.get_input_tensor().data[0] = PREPROCESSING(body)
            request.infer()
            count += 1
        return count

    with ThreadPoolExecutor(lanes) as pool:
        done = [pool.submit(lane) for _ in range(lanes)]
        return sum(each.result() for each in done) / seconds


@dataclass(frozen=True)
class _Target:
    """Where a running server is asked."""

    port: int
    path: str = "/invocations"
    request: Callable[[bytes], tuple[bytes, str]] = lambda body: (body, "image/jpeg")


@contextmanager
def _plain(scratch: Path) -> Iterator[_Target]:
    port = _free_port()
    command = ["-m", "gunicorn", "--workers=2", f"--bind=127.0.0.1:{port}", "--log-level=error"]
    weights = str(scratch / "weights.pth")
    app = [sys.executable, *command, "benchmarks.plain_server:app"]
    with _server(app, port, "/ping", {"PLAIN_WEIGHTS": weights}):
        yield _Target(port)


@contextmanager
def _kennel(scratch: Path, precision: str) -> Iterator[_Target]:
    port = _free_port()
    variables = {
        "SAGEMAKER_BASE_DIR": str(scratch / "job"),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "KENNEL_ENGINE": "openvino",
        "KENNEL_PRECISION": precision,
    }
    with _server([sys.executable, str(ROOT / "serve")], port, "/ping", variables):
        yield _Target(port)


@contextmanager
def _peer(peer: Peer, scratch: Path) -> Iterator[_Target]:
    port = _free_port()
    peer.files(peer.environment, scratch, port)
    command = peer.command(peer.environment, scratch, port)
    with _server(command, port, peer.ready, peer.variables(scratch)):
        yield _Target(port, peer.path, peer.request)


@contextmanager
def _server(
    command: list[str], port: int, ready: str, variables: Mapping[str, str]
) -> Iterator[None]:
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | dict(variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # some servers leave workers behind
    )
    try:
        deadline = time.monotonic() + 90
        while not _is_healthy(port, ready):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} did not start")
            time.sleep(0.05)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _is_healthy(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == http.client.OK)
    except (URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
