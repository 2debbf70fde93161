"""Two hosts on loopback, each the real `./train` with a tree of its own, train one network."""

import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from opt_ml import QUICK, OptMl, write_images
from safetensors.numpy import load_file
from safetensors.torch import save_file

from container import model

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
    weights = model.build_resnet("resnet18", 1000).state_dict()
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
        assert np.linalg.norm(alone - together) < 0.03 * np.linalg.norm(alone), name
    assert [list(entry.values()) for entry in first.metrics()] == [
        pytest.approx(list(entry.values()), rel=1e-3) for entry in opt_ml.metrics()
    ]
    # The first host alone writes and prints.
    assert not [path for path in (second.base / "model").rglob("*") if path.is_file()]
    assert not [path for path in (second.base / "output").rglob("*") if path.is_file()]
