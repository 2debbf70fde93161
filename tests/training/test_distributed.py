"""Two hosts on loopback, each the real `./train` with a tree of its own, train one network."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from opt_ml import QUICK, ROOT, OptMl, write_images
from safetensors.numpy import load_file
from safetensors.torch import save_file

from container import torch_resnet
from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.images import Preprocessing
from container.job import Job, JobEnvironment
from container.stopping import StopSignal
from container.training import dataset, feature_parts, host_shards, torchrun
from container.training.augmentation import Augmentation
from container.training.backbone import Backbone, Cut
from container.training.decoded import decode_split
from container.training.feature_store import FeatureStore, Key, encode
from container.training.frozen import MIRRORED, PLAIN, FeatureExtractor
from container.training.source import Share
from container.training.world import World

T = TypeVar("T")
Array = NDArray[np.float32]

HOSTS = ("127.0.0.1", "127.0.0.2")
SHARED = {"weights": "imagenet", "epochs": "2", "optimizer": "sgd", "precision": "float32"}
# Steps so small that rounding, which a deep network enlarges, stays small beside them.
PIXELS = QUICK | SHARED | {"image-size": "64", "batch-size": "16", "lr": "0.00001"}
FEATURES = PIXELS | {"trainable": "head", "lr": "0.01"}
ACTIVATIONS = PIXELS | {"trainable": "layer4"}


class Cluster:
    """Hosts that hold the same images."""

    def __init__(self, folder: Path, images: Callable[[Path, int], object]) -> None:
        self.hosts = []
        self.port = _free_port()
        self.processes: list[subprocess.Popen[str]] = []
        for number, name in enumerate(HOSTS):
            host = OptMl(folder / name / "opt/ml")
            host.write_config(
                "resourceconfig.json",
                {
                    "current_host": name,
                    "hosts": list(HOSTS),
                    "network_interface_name": "lo",
                },
            )
            images(host.channel("train"), number)
            self.hosts.append(host)

    def start(self, options: Mapping[str, str]) -> None:
        """Start `train` on every host."""
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        self.processes = [host.start(*flags, MASTER_PORT=str(self.port)) for host in self.hosts]

    def wait(self) -> list[tuple[int, str, str]]:
        """The exit code, output and errors of every host."""
        ended = []
        for process in self.processes:
            output, errors = process.communicate(timeout=200)
            ended.append((process.returncode, output, errors))
        return ended

    def train(self, options: Mapping[str, str]) -> list[tuple[int, str, str]]:
        """Start `train` on every host, and wait for the end."""
        self.start(options)
        return self.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def all_images(channel: Path, number: int) -> Path:
    """Every host gets all images."""
    return write_images(channel, count=20)


def write_pretrained(*hosts: OptMl) -> dict[str, Array]:
    """Give each host the same weights to start from; returns them."""
    torch.manual_seed(0)
    weights = torch_resnet.build("resnet18", 1000).state_dict()
    for host in hosts:
        save_file(weights, host.channel("pretrained") / "resnet18.safetensors")
    return {name: tensor.numpy() for name, tensor in weights.items()}


def learned(opt_ml: OptMl, name: str) -> Array:
    """One of the trained network's tensors."""
    return load_file(opt_ml.base / "model/model.safetensors")[name]


@pytest.mark.parametrize(
    "options", [PIXELS, FEATURES, ACTIVATIONS], ids=["all layers", "head", "last stage"]
)
def test_two_hosts_learn_the_weights_that_one_would(
    tmp_path: Path, opt_ml: OptMl, options: Mapping[str, str]
) -> None:
    all_images(opt_ml.channel("train"), 0)
    cluster = Cluster(tmp_path / "cluster", all_images)
    first, second = cluster.hosts
    start = write_pretrained(opt_ml, first, second) | {"fc.bias": np.zeros(2, np.float32)}
    cluster.start(options)
    assert opt_ml.train(options).returncode == 0
    for code, output, errors in cluster.wait():
        assert code == 0, output + errors
    changed = {
        "all": ("conv1.weight", "layer3.0.conv1.weight", "layer4.1.bn2.running_var"),
        "layer4": ("layer4.0.conv1.weight", "layer4.1.bn2.running_var"),
        "head": (),
    }
    for name in ("fc.bias", *changed[options["trainable"]]):
        alone, together = (learned(each, name) - start[name] for each in (opt_ml, first))
        assert np.linalg.norm(alone - together) < 0.1 * np.linalg.norm(alone), name
    assert [list(entry.values()) for entry in first.metrics()] == [
        pytest.approx(list(entry.values()), rel=1e-3) for entry in opt_ml.metrics()
    ]
    # The first host alone writes and prints.
    assert not [path for path in (second.base / "model").rglob("*") if path.is_file()]
    assert not [path for path in (second.base / "output").rglob("*") if path.is_file()]


LONG = PIXELS | {"epochs": "40", "checkpoint-seconds": "0.01"}


def started_epochs(cluster: Cluster) -> None:
    """Wait until the first host has finished an epoch."""
    output = cluster.processes[0].stdout
    assert output
    assert any(line.startswith("epoch 1/") for line in output)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a host: `train`, torchrun and what it started, all at once."""
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    for member in family:
        member.kill()


def test_a_dead_host_fails_the_others_and_a_restart_goes_on(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, all_images)
    first, second = cluster.hosts
    write_pretrained(first, second)
    cluster.start(LONG)
    started_epochs(cluster)
    end(cluster.processes[1])
    (code, _, _), _ = cluster.wait()
    assert code == 1
    assert first.failure().startswith("127.0.0.1 lost the connection to another process")
    assert len(first.failure()) <= 1024
    assert len(first.failure().splitlines()) == 1

    cluster.start(LONG)
    output = cluster.processes[0].stdout
    assert output
    lines = []
    for line in output:
        lines.append(line)
        if re.match(r"epoch \d+/", line):
            break
    assert any(line.startswith("Resumed from checkpoint-") for line in lines)
    # SIGTERM reaches every process, and the model is saved.
    for process in cluster.processes:
        process.send_signal(signal.SIGTERM)
    for code, rest, errors in cluster.wait():
        assert code == 0, rest + errors
        lines.append(rest)
    assert "Stopped as asked." in "".join(lines)
    assert (first.base / "model/model.safetensors").exists()
    assert not (first.base / "output/failure").exists()


def test_one_hosts_bad_data_is_the_reason_that_all_give(tmp_path: Path) -> None:
    def images(channel: Path, number: int) -> None:
        all_images(channel, number)
        if number:
            shutil.rmtree(channel / "dog")

    cluster = Cluster(tmp_path, images)
    assert [code for code, _, _ in cluster.train(PIXELS | {"weights": "none"})] == [1, 1]
    for host in cluster.hosts:
        assert "at least two; found cat" in host.failure()
    assert cluster.hosts[0].failure().startswith("127.0.0.2: ")


def test_hosts_that_hold_different_images_learn_all_classes(tmp_path: Path) -> None:
    def images(channel: Path, number: int) -> None:
        write_images(channel, [("cat", "dog"), ("dog", "emu")][number], count=20 + 4 * number)

    cluster = Cluster(tmp_path, images)
    for host in cluster.hosts:
        host.write_config(
            "inputdataconfig.json", {"train": {"S3DistributionType": "ShardedByS3Key"}}
        )
    (cluster.hosts[1].channel("train") / "emu/00.jpg").write_bytes(b"no image")
    options = {"trainable": "head", "weights": "none", "class-weights": "balanced"}
    for code, output, errors in cluster.train(PIXELS | options):
        assert code == 0, output + errors
    facts = cluster.hosts[0].facts()
    assert facts["classes"] == ["cat", "dog", "emu"]
    assert sum(facts["data"]["images"].values()) == 87
    assert facts["data"]["rejected"] == 1
    listed = (cluster.hosts[0].base / "output/data/rejected_images.csv").read_text()
    assert "127.0.0.2:" in listed


def test_of_hosts_with_different_images_all_are_counted_together(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, all_images)
    for number, host in enumerate(cluster.hosts):
        channels = ("train", "validation")
        host.write_config(
            "inputdataconfig.json",
            {name: {"S3DistributionType": "ShardedByS3Key"} for name in channels},
        )
        write_images(host.channel("validation"), ("cat",), count=20 if number == 0 else 1)
        (host.channel("train") / "dog/00.jpg").write_bytes(b"no image")
        (host.channel("train") / "loose.jpg").write_bytes(b"no image")
    (cluster.hosts[1].channel("validation") / "cat/00.jpg").write_bytes(b"no image")
    # Of 103 images 5 cannot be used, but of those that one host holds far more.
    options = {"trainable": "head", "weights": "none", "rejected-limit": "0.05"}
    for code, output, errors in cluster.train(PIXELS | options):
        assert code == 0, output + errors
    data = cluster.hosts[0].facts()["data"]
    assert data["rejected"] == 5
    assert data["images"] == {"train": 78, "validation": 20, "test": 0}


@dataclass(frozen=True)
class Thread(World):
    """A host that is a thread of this process."""

    said: list[bytes] = field(default_factory=list)
    """What each has to say."""
    meeting: Barrier = field(default_factory=lambda: Barrier(1))

    def gather(self, content: bytes) -> list[bytes]:
        self.meeting.wait()  # by now all know what was said before
        self.said[self.rank] = content
        self.meeting.wait()
        return list(self.said)

    def total(self, *numbers: float) -> tuple[float, ...]:
        parts = map(json.loads, self.gather(json.dumps(numbers).encode()))
        return tuple(map(sum, zip(*parts, strict=True)))


def on_all_hosts(work: Callable[[World], T]) -> list[T]:
    """What the same work comes to on every host, at the same time."""
    said, meeting = [b""] * len(HOSTS), Barrier(len(HOSTS), timeout=60)
    worlds = [
        Thread(rank, len(HOSTS), host=name, said=said, meeting=meeting)
        for rank, name in enumerate(HOSTS)
    ]
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        return list(pool.map(work, worlds))


def test_an_image_that_one_host_alone_cannot_read_fails_all(tmp_path: Path) -> None:
    def failure(world: World) -> str:
        train = all_images(tmp_path / world.host, world.rank)
        if not world.is_main:
            (train / "cat/00.jpg").write_bytes(b"no image")
        images = dataset.find({"train": train}, Hyperparameters(), tmp_path / "scratch")
        splits = {
            name: decode_split(split, 32, name, StopSignal())
            for name, split in images.splits().items()
        }
        with pytest.raises(UserError) as caught:
            host_shards.shares(splits, images, 16, world)
        return str(caught.value)

    sentence = (
        "The 39 images that a process on 127.0.0.2 can read are not the 40 that the first can, on "
        "127.0.0.1. Give every host the same images, or let them arrive ShardedByS3Key."
    )
    assert on_all_hosts(failure) == [sentence, sentence]


@pytest.mark.parametrize("wrapper", ["", "data/animals"])
def test_the_only_class_of_a_host_may_have_folders_inside(tmp_path: Path, wrapper: str) -> None:
    def classes(world: World) -> tuple[str, ...]:
        train = tmp_path / world.host
        if world.is_main:
            write_images(train / wrapper / "cat", ("indoor", "outdoor"), count=10)
        else:
            write_images(train / wrapper, ("dog",), count=20)
        sharded = frozenset({"train"})
        environment = JobEnvironment({"train": train}, HOSTS, world.host, "lo", sharded)
        return host_shards.find(
            environment, Hyperparameters(), tmp_path / "scratch", world, StopSignal()
        ).classes

    assert on_all_hosts(classes) == [("cat", "dog")] * len(HOSTS)


@pytest.mark.parametrize("inner", [("cat", "dog"), ("cat", "owl")])
def test_a_folder_on_one_host_that_wraps_what_another_has_right_away_is_no_class(
    tmp_path: Path, inner: tuple[str, str]
) -> None:
    def classes(world: World) -> tuple[str, ...]:
        train = tmp_path / world.host
        if world.is_main:
            write_images(train / "data", inner, count=20)
        else:
            write_images(train, ("cat", "dog"), count=20)
        sharded = frozenset({"train"})
        environment = JobEnvironment({"train": train}, HOSTS, world.host, "lo", sharded)
        return host_shards.find(
            environment, Hyperparameters(), tmp_path / "scratch", world, StopSignal()
        ).classes

    assert on_all_hosts(classes) == [tuple(sorted({"cat", "dog", *inner}))] * len(HOSTS)


def test_what_frozen_layers_made_is_sent_where_a_host_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = Preprocessing.for_image_size(32)
    train = all_images(tmp_path / "train", 0)
    (train / "dog/00.jpg").write_bytes(b"no image")
    images = dataset.find({"train": train}, Hyperparameters(), tmp_path / "scratch")
    network = torch_resnet.build("resnet18", 2)
    wanted = {
        name: (split, (PLAIN, MIRRORED) if name == "train" else (PLAIN,))
        for name, split in images.splits().items()
    }

    sent: list[int] = []

    def sending(keys: Sequence[Key], rows: torch.Tensor) -> bytes:
        sent.append(len(keys))
        return encode(keys, rows)

    monkeypatch.setattr(feature_parts, "encode", sending)

    def files(host: str) -> set[Path]:
        return set((tmp_path / host).glob("*.safetensors"))

    def computed(world: World) -> int:
        """The rows that a host has to compute, after which it has all; its cache is its own."""
        backbone = Backbone(network, "resnet18", preprocessing, "float32", Cut.below("head"))
        store = FeatureStore(tmp_path / world.host)
        augmentation = Augmentation(image_size=32, crop_scale=1, flip=True)
        extractor = FeatureExtractor(backbone, store, preprocessing, augmentation, StopSignal())
        found = feature_parts.compute_together(extractor, wanted, world)
        assert sum(map(len, found.values())) == 39
        assert len(store.read().positions) == sum(each.positions.size for each in found.values())
        return extractor.computed

    halves = on_all_hosts(computed)
    rows = len(FeatureStore(tmp_path / HOSTS[0]).read().positions)
    assert sum(halves) == sum(sent) == rows, "each computes its part alone"
    sent.clear()
    assert on_all_hosts(computed) == [0, 0]
    assert sent == [], "both have all, but for what cannot be read"

    before = files(HOSTS[0])
    shutil.rmtree(tmp_path / HOSTS[1])
    assert on_all_hosts(computed) == [0, halves[1]]
    assert sum(sent) == rows
    assert files(HOSTS[0]) == before, "what it has is not stored again"


PATIENT = """
from datetime import timedelta
import torch.distributed as dist
from container.training.world import joined

with joined(("localhost",), "localhost") as world:
    # Of the group that trains; the other process does not answer in it.
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1))
    if world.is_main:
        try:
            world.in_step().total(1)
        except RuntimeError as error:
            print("lost", flush=True)
    print(world.gather(b"%d" % world.rank))
"""


def test_a_host_is_waited_for_longer_than_steps_take_before_training() -> None:
    variables = {
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PATIENT],
            cwd=ROOT,
            env=os.environ | variables | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert first.endswith("lost\n[b'0', b'1']\n")
    assert second.endswith("[b'0', b'1']\n")


def test_a_host_without_an_address_is_waited_for_and_then_named(
    opt_ml: OptMl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torchrun, "SECONDS_FOR_HOSTS", 1.5)
    monkeypatch.setattr(torchrun, "SECONDS_BETWEEN_LINES", 0)
    environment = JobEnvironment({}, ("localhost", "nowhere.invalid"), "localhost", "lo")
    with pytest.raises(UserError, match=r"The host nowhere\.invalid has no address"):
        torchrun.run(Job(opt_ml.base), environment, (), StopSignal())
    assert "Waiting for the host nowhere.invalid" in capsys.readouterr().out


def test_batches_that_are_parted_are_those_of_one_process() -> None:
    shares = [Share(rank, 3) for rank in range(3)]
    parts = [share.batches(50, batch_size=8, seed=1, epoch=2, first_step=3) for share in shares]
    whole = Share().batches(50, batch_size=8, seed=1, epoch=2, first_step=3)
    assert [np.concatenate(each).tolist() for each in zip(*parts, strict=True)] == [
        batch.tolist() for batch in whole
    ]
    assert [index for share in shares for index in share.evaluated(50)] == list(range(50))


def test_hosts_with_different_images_take_the_same_number_of_steps() -> None:
    held = (30, 21)
    parts = [
        Share(rank, 2, total=51).batches(count, batch_size=8, seed=0, epoch=0, first_step=0)
        for rank, count in enumerate(held)
    ]
    assert len(parts[0]) == len(parts[1]) == 7
    for count, batches in zip(held, parts, strict=True):
        assert sorted(np.concatenate(batches)) == list(range(count))
