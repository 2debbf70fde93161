"""Serving on this machine's CPU: Kennel, a plain Flask server, others, and the bare engine."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
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
from container import artifact, model, openvino_resnet, processors, torch_resnet
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

    bare: dict[int, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """What `_bare` gave just after, by the number of clients."""

    def share_of_bare(self, clients: int) -> str:
        """Rate and processor time beside those of the engine itself, round by round."""
        rates = [rate for rate, _ in self.bare[clients]]
        loads = self.loads[clients]
        share = middle([load.per_second / rate for load, rate in zip(loads, rates, strict=True)])
        used = middle(self.processor[clients])
        alone = middle([milliseconds for _, milliseconds in self.bare[clients]])
        return (
            f"{share:.0%} of {middle(rates):.0f}/s; of a processor {used:.2f} ms a request "
            f"against {alone:.2f} ms"
        )

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
    others: dict[str, Start] = {"plain Flask, 2 workers of torch": partial(plain, scratch, body)}
    rows = []
    for each in peers:
        problem = each.install()
        if problem is None:
            others[each.packages[0].replace("==", " ")] = partial(peer, each, scratch, body)
        else:
            rows.append(Row(f"{each.name} is left out", problem))
    precisions = [name for name in PRECISIONS if name != "bfloat16" or _has_bfloat16()]
    ours = {f"Kennel, {precision}": (precision, 1) for precision in precisions}
    # Where an answer takes little, HTTP's part of it counts, which each process does on its own.
    ours |= {f"Kennel, {name}, 2 processes": (name, 2) for name in precisions if name != "float32"}
    measured: dict[str, _Measured] = defaultdict(_Measured)
    for _ in range(rounds):
        for name, start in list(others.items()):
            try:
                with start() as server:
                    _measure(server, body, counts, seconds, measured[name])
            except RuntimeError as error:
                rows.append(Row(f"{name} is left out", str(error)))
                del others[name]
                measured.pop(name, None)
        for name, (precision, processes) in ours.items():
            with kennel(scratch, body, precision, KENNEL_PROCESSES=str(processes)) as server:
                _measure(server, body, counts, seconds, measured[name])
            for clients in counts:
                bare = _bare(scratch / "job/model", body, precision, clients, seconds)
                measured[name].bare[clients].append(bare)
    for clients in counts:
        rows += _under_load(measured, list(others), list(ours), clients)
    for name, one in measured.items():
        figure = (
            f"ping after {middle(one.pings):.2f} s, answer after {middle(one.answers):.2f} s, "
            f"{middle(one.memory):.0f} MB (PSS)"
        )
        rows.append(Row(f"{name}, start and memory", figure))
    # The README looks for the ResNet-18's rows by their names.
    prefix = "" if architecture == "resnet18" else f"{architecture}: "
    return [Row(f"{prefix}{row.what}", row.figure, row.ratio) for row in rows]


def _under_load(
    measured: Mapping[str, _Measured], others: Sequence[str], ours: Sequence[str], clients: int
) -> list[Row]:
    """What each server did under one load, and what of it Kennel's engine does without HTTP."""
    best = max(measured[name].rate(clients) for name in others)
    rows = [Row(f"{name}, {clients} clients", measured[name].figure(clients)) for name in others]
    for name in ours:
        ratio = measured[name].rate(clients) / best
        rows.append(Row(f"{name}, {clients} clients", measured[name].figure(clients), ratio))
    for name in ours:
        what = f"{name}, against decoding and scoring without HTTP, {clients} clients"
        rows.append(Row(what, measured[name].share_of_bare(clients)))
    return rows


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
    network = torch_resnet.build(architecture, CLASSES).eval()
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
