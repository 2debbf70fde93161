"""Serving on this machine's CPU: Kennel, a plain Flask server, others, and the bare engine."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.load import Load, measure
from benchmarks.peers import PEERS, Peer
from benchmarks.photographs import write_photographs
from benchmarks.serving_processes import Server, kennel, peer, plain
from benchmarks.table import Row, middle
from container import artifact, model, openvino_resnet, processors
from container.images import Preprocessing
from container.stopping import StopSignal
from container.training.dataset import Split
from container.training.decoded import decode_split
from container.training.quantization import quantize

PRECISIONS = ("float32", "bfloat16", "int8")
CLASSES = 133
PREPROCESSING = Preprocessing()


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Requests per second at 1, 4 and 16 clients, in alternation."""
    return _compare(scratch, "resnet18", quick=quick, peers=())


def run_with_peers(scratch: Path, *, quick: bool) -> list[Row]:
    """The same beside other servers, which are installed in the user's cache first."""
    return _compare(scratch, "resnet18", quick=quick, peers=PEERS)


def run_with_peers50(scratch: Path, *, quick: bool) -> list[Row]:
    """The same with ResNet-50."""
    return _compare(scratch, "resnet50", quick=quick, peers=PEERS)


Start = Callable[[], AbstractContextManager[Server]]


@dataclass
class _Measured:
    """What one server did, a figure for each round."""

    loads: dict[int, list[Load]] = field(default_factory=lambda: defaultdict(list))
    """By the number of clients."""
    processor: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Milliseconds of processor time for a request, by the number of clients."""
    pings: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def rate(self, clients: int) -> float:
        """Requests per second."""
        return middle([load.per_second for load in self.loads[clients]])

    def figure(self, clients: int) -> str:
        """Rate and p99."""
        p99 = middle([load.p99_milliseconds for load in self.loads[clients]])
        return f"{self.rate(clients):.0f}/s, p99 {p99:.0f} ms"


def _compare(scratch: Path, architecture: str, *, quick: bool, peers: Sequence[Peer]) -> list[Row]:
    write_artifact(scratch, architecture)
    body = next((scratch / "photographs").rglob("*.jpg")).read_bytes()
    seconds, rounds = (2.0, 1) if quick else (3.0, 2)
    counts = (1, 4) if quick else (1, 4, 16)
    servers: dict[str, Start] = {"plain Flask, 2 workers of torch": partial(plain, scratch, body)}
    rows = []
    for each in peers:
        problem = each.install()
        if problem is None:
            servers[each.packages[0].replace("==", " ")] = partial(peer, each, scratch, body)
        else:
            rows.append(Row(f"{each.name} is left out", problem))
    precisions = [name for name in PRECISIONS if name != "bfloat16" or _has_bfloat16()]
    servers |= {f"Kennel, {name}": partial(kennel, scratch, body, name) for name in precisions}
    measured: dict[str, _Measured] = defaultdict(_Measured)
    for _ in range(rounds):
        for name, start in list(servers.items()):
            try:
                with start() as server:
                    _measure(server, body, counts, seconds, measured[name])
            except RuntimeError as error:
                if name.startswith("Kennel"):
                    raise
                rows.append(Row(f"{name} is left out", str(error)))
                del servers[name]
                measured.pop(name, None)
    for clients in counts:
        best = max(measured[name].rate(clients) for name in servers if "Kennel" not in name)
        for name in servers:
            ratio = measured[name].rate(clients) / best if name.startswith("Kennel") else None
            rows.append(Row(f"{name}, {clients} clients", measured[name].figure(clients), ratio))
        for precision in precisions:
            bare, milliseconds = _bare(scratch / "job/model", body, precision, clients, seconds)
            ours = measured[f"Kennel, {precision}"]
            used = middle(ours.processor[clients])
            rows.append(
                Row(
                    f"Kennel, {precision}, against decoding and scoring without HTTP, "
                    f"{clients} clients",
                    f"{ours.rate(clients) / bare:.0%} of {bare:.0f}/s; of a processor "
                    f"{used:.2f} ms a request against {milliseconds:.2f} ms",
                )
            )
    for name in servers:
        ping, answer = middle(measured[name].pings), middle(measured[name].answers)
        memory = middle(measured[name].memory)
        figure = f"ping after {ping:.2f} s, answer after {answer:.2f} s, {memory:.0f} MB (PSS)"
        rows.append(Row(f"{name}, start and memory", figure))
    # The README looks for the ResNet-18's rows by their names.
    prefix = "" if architecture == "resnet18" else f"{architecture}: "
    return [Row(f"{prefix}{row.what}", row.figure, row.ratio) for row in rows]


def _measure(
    server: Server, body: bytes, counts: Sequence[int], seconds: float, into: _Measured
) -> None:
    request, kind = server.request(body)
    for clients in counts:
        before = server.processor_seconds()
        load = measure(
            server.port,
            request,
            clients=clients,
            seconds=seconds,
            content_type=kind,
            path=server.path,
        )
        used = server.processor_seconds() - before
        into.loads[clients].append(load)
        into.processor[clients].append(1000 * used / load.answered)
    into.pings.append(server.ping_seconds)
    into.answers.append(server.answer_seconds)
    into.memory.append(server.memory())


def _has_bfloat16() -> bool:
    core = openvino_resnet.import_openvino().Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def write_artifact(
    scratch: Path, architecture: str, preprocessing: Preprocessing = PREPROCESSING
) -> None:
    """Random weights, with an int8 form whatever it loses."""
    scratch.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = model.build_resnet(architecture, CLASSES).eval()
    torch.save(network.state_dict(), scratch / "weights.pth")
    photographs = write_photographs(scratch / "photographs", classes=1, images=8)
    paths = tuple(sorted(photographs.rglob("*.jpg")))
    images = decode_split(
        Split(paths, (0,) * len(paths)), preprocessing.resize_size, "Decoding", StopSignal()
    )
    model.save(
        network,
        scratch / "job/model",
        architecture=architecture,
        classes=[f"{number:03d}" for number in range(CLASSES)],
        preprocessing=preprocessing,
        hyperparameters={},
        metrics={},
        data={},
        int8=quantize(network, architecture, preprocessing, images, images, 100),
    )


def _bare(
    directory: Path, body: bytes, precision: str, clients: int, seconds: float
) -> tuple[float, float]:
    """The engine itself, from a file's bytes to the scores: by all processors together for one
    client, and by a thread on each for several. Images per second, and milliseconds of processor
    time for an image.
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
    compiled.create_infer_request().infer()  # the first one also prepares its buffers
    end = time.perf_counter() + seconds

    def lane() -> int:
        request = compiled.create_infer_request()
        count = 0
        while time.perf_counter() < end:
            request.get_input_tensor().data[0] = PREPROCESSING(body)
            request.infer()
            count += 1
        return count

    before = time.process_time()
    with ThreadPoolExecutor(lanes) as pool:
        done = [pool.submit(lane) for _ in range(lanes)]
        images = sum(each.result() for each in done)
    return images / seconds, 1000 * (time.process_time() - before) / images
