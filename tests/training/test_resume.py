"""A training that is killed again and again ends with the very weights of one that was not."""

import errno
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from forked_training import ForkedTraining
from opt_ml import QUICK, OptMl, write_images
from safetensors.torch import load_file, save_file

from container.errors import UserError
from container.training.checkpoint import Checkpoints, Position
from container.training.world import World

BUSY = QUICK | {"checkpoint-seconds": "0.1", "profile": "false", "rules": "off"}
ALL_LAYERS = BUSY | {"epochs": "2", "batch-size": "4"}
HEAD = BUSY | {"trainable": "head", "epochs": "250", "batch-size": "4", "ema": "0.9"}
LAST_STAGE = ALL_LAYERS | {"trainable": "layer4", "mixup": "0.2"}
KILLS = 6


@pytest.fixture
def trainings(opt_ml: OptMl) -> Iterator[ForkedTraining]:
    with ForkedTraining(opt_ml) as process:
        yield process


@pytest.mark.parametrize(
    "options", [ALL_LAYERS, HEAD, LAST_STAGE], ids=["all layers", "head", "last stage"]
)
def test_kills_at_random_moments_change_no_bit(
    opt_ml: OptMl, tmp_path: Path, trainings: ForkedTraining, options: Mapping[str, str]
) -> None:
    undisturbed = OptMl(tmp_path / "undisturbed/ml")
    for tree in (undisturbed, opt_ml):
        write_images(tree.channel("train"), count=20)
    started = time.monotonic()
    assert trainings.train(undisturbed, options) == 0
    duration = time.monotonic() - started

    def resumed() -> bool:
        return "Resumed from checkpoint-" in (tmp_path / "opt/log").read_text()

    moments = np.random.default_rng(7)
    for _ in range(KILLS):
        code = trainings.train(opt_ml, options, seconds=moments.uniform(0.3, 1) * duration)
        assert code in (0, -signal.SIGKILL)
        if code == 0 and resumed():  # it had come so far that it was done first
            break
        # The machine's speed is another than when the duration was taken.
        if code == 0:
            duration /= 2
        elif not list((opt_ml.base / "checkpoints").glob("*.safetensors")):
            duration *= 1.5
    else:
        assert trainings.train(opt_ml, options) == 0
    assert resumed()
    assert opt_ml.facts()["weights_sha256"] == undisturbed.facts()["weights_sha256"]
    assert not list((opt_ml.base / "checkpoints").iterdir())


def test_the_last_good_checkpoint_is_found_among_whatever_else_is_there(
    opt_ml: OptMl, tmp_path: Path, trainings: ForkedTraining
) -> None:
    undisturbed = OptMl(tmp_path / "undisturbed/ml")
    for tree in (undisturbed, opt_ml):
        write_images(tree.channel("train"), count=20)
    started = time.monotonic()
    assert trainings.train(undisturbed, ALL_LAYERS) == 0
    seconds = 0.6 * (time.monotonic() - started)

    checkpoints = opt_ml.base / "checkpoints"
    while not list(checkpoints.glob("checkpoint-*")):
        code = trainings.train(opt_ml, ALL_LAYERS, seconds=seconds)
        assert code in (0, -signal.SIGKILL)
        # Where the machine was busier before, it was done by then, and its checkpoints are gone.
        seconds *= 1.1 if code else 0.7
    good = max(checkpoints.glob("checkpoint-*.safetensors"))
    identity = good.name.rsplit("-", 2)[0]
    content = good.read_bytes()
    (checkpoints / f"{identity}-000900-00000000.safetensors").write_bytes(content[:-100])
    (checkpoints / f"{identity}-000901-00000000.safetensors").write_bytes(b"")
    tensors = load_file(good)
    del tensors["network/fc.weight"]
    save_file(tensors, checkpoints / f"{identity}-000902-00000000.safetensors")
    (checkpoints / f"{identity}-000903-00000000.safetensors").mkdir()
    (checkpoints / f".{identity}-000001-00000000.safetensors.1.partial").write_bytes(b"half")
    (checkpoints / "checkpoint-of-something-else.pt").write_bytes(b"\x80")
    (checkpoints / "metadata.json").write_text("{}")  # smdebug's
    (checkpoints / f"{good.name}.sagemaker-uploaded").touch()

    assert trainings.train(opt_ml, ALL_LAYERS) == 0
    log = (tmp_path / "opt/log").read_text()
    assert f"Resumed from {good.name}" in log
    assert opt_ml.facts()["weights_sha256"] == undisturbed.facts()["weights_sha256"]
    assert (checkpoints / "checkpoint-of-something-else.pt").exists()
    assert (checkpoints / "metadata.json").exists()
    assert not list(checkpoints.glob(".*partial"))


@pytest.fixture
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the files of which the disk gives nothing."""
    failing: set[str] = set()
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name in failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    return failing


def test_a_checkpoint_that_the_disk_does_not_give_is_kept(
    tmp_path: Path, failing_disk: set[str]
) -> None:
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    checkpoints = Checkpoints(tmp_path, "any", seconds=0, world=World())
    for epoch in (3, 4):
        checkpoints.write(network, optimizer, Position(epoch=epoch), {}, {})
    written = sorted(tmp_path.iterdir())
    failing_disk.add(written[1].name)
    assert checkpoints.restore(network, optimizer)[0].epoch == 3
    failing_disk.add(written[0].name)
    with pytest.raises(UserError, match="cannot be read: Input/output error"):
        checkpoints.restore(network, optimizer)
    assert sorted(tmp_path.iterdir()) == written
    failing_disk.clear()
    assert checkpoints.restore(network, optimizer)[0].epoch == 4
