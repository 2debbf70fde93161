"""Two containers on a network of their own, named as SageMaker names its hosts."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from docker_engine import Container, container, docker, wait_until
from opt_ml import write_images
from safetensors.numpy import load_file
from safetensors.torch import save_file

from container import torch_resnet

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

HOSTS = ("algo-1", "algo-2")
OPTIONS = {
    **{"trainable": "all", "weights": "imagenet", "image-size": "64", "batch-size": "16"},
    **{"optimizer": "sgd", "lr": "0.00001", "epochs": "2", "precision": "float32"},
}
SECONDS = 300

Start = Callable[[dict[str, str]], AbstractContextManager[list[Container]]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Images and weights that all hosts share, and a tree for each."""
    write_images(tmp_path / "data/train", count=20)
    torch.manual_seed(0)
    (tmp_path / "data/pretrained").mkdir()
    weights = torch_resnet.build("resnet18", 1000).state_dict()
    save_file(weights, tmp_path / "data/pretrained/resnet18.safetensors")
    return tmp_path


def host(base: Path, name: str, hosts: tuple[str, ...], options: dict[str, str]) -> tuple[str, ...]:
    """The mounts of one host."""
    config = base / name / "config"
    config.mkdir(parents=True, exist_ok=True)
    resources = {
        "current_host": name,
        "hosts": list(hosts),
        "network_interface_name": "eth0",
    }
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    (config / "hyperparameters.json").write_text(json.dumps(options))
    mounts = [
        *("-v", f"{base / 'data'}:/opt/ml/input/data:ro"),
        *("-v", f"{config}:/opt/ml/input/config:ro"),
    ]
    for folder in ("model", "output", "checkpoints"):
        (base / name / folder).mkdir(exist_ok=True)
        mounts += ["-v", f"{base / name / folder}:/opt/ml/{folder}"]
    return tuple(mounts)


@pytest.fixture
def cluster(image: str, base: Path) -> Iterator[Start]:
    """Starts the two hosts on a network of their own."""
    network = docker("network", "create", f"kennel-{uuid.uuid4().hex}")

    @contextmanager
    def start(options: dict[str, str]) -> Iterator[list[Container]]:
        with ExitStack() as stack:
            yield [
                stack.enter_context(
                    container(
                        image,
                        "train",
                        options=(
                            *("--network", network, "--network-alias", name, "--hostname", name),
                            *host(base, name, HOSTS, options),
                        ),
                    )
                )
                for name in HOSTS
            ]

    yield start
    docker("network", "rm", network)


def test_two_hosts_learn_what_one_would(image: str, base: Path, cluster: Start) -> None:
    with cluster(OPTIONS) as hosts:
        for each in hosts:
            assert each.wait(seconds=SECONDS) == 0, each.logs()
    options = host(base, "alone", ("alone",), OPTIONS)
    with container(image, "train", options=options) as alone:
        assert alone.wait(seconds=SECONDS) == 0, alone.logs()
    start = load_file(base / "data/pretrained/resnet18.safetensors")
    expected, learned = (
        load_file(base / name / "model/model.safetensors") for name in ("alone", "algo-1")
    )
    for name in ("conv1.weight", "layer3.0.conv1.weight", "layer4.1.bn2.running_var"):
        change = expected[name] - start[name]
        difference = np.linalg.norm(learned[name] - expected[name])
        assert difference < 0.1 * np.linalg.norm(change), name
    assert not list((base / "algo-2/model").iterdir())


def test_a_killed_host_fails_the_other_and_a_restart_resumes(base: Path, cluster: Start) -> None:
    options = OPTIONS | {"epochs": "200"}

    def trains(first: Container) -> bool:
        assert first.running(), first.logs()
        return "/200: train:loss=" in first.logs()

    with cluster(options) as (first, second):
        wait_until(lambda: trains(first), seconds=SECONDS, what="the first epoch")
        docker("kill", second.identifier)
        assert first.wait(seconds=60) == 1
        failure = (base / "algo-1/output/failure").read_text()
        assert failure.startswith("algo-1 lost the connection to another process of this job")
    with cluster(options) as (first, second):
        wait_until(lambda: trains(first), seconds=SECONDS, what="another epoch")
        assert "Resumed from checkpoint-" in first.logs()
        assert first.stop(grace=100) == 0, first.logs()
        assert second.wait(seconds=100) == 0, second.logs()
    assert (base / "algo-1/model/model.safetensors").is_file()
