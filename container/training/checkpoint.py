"""Checkpoints: everything that a killed job needs to go on as if it had never stopped.

One safetensors file holds the weights, the optimizer's state and the position; the two newest are
kept. Files of other programs in the directory (smdebug's `metadata.json`) are left alone.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from container.errors import UserError
from container.progress import say
from container.training.world import World

FORMAT = 2
"""Counted up when tensors of the same names mean something else: older checkpoints are no good."""
KEPT = 2
PARTIAL = ".partial"

State = dict[str, Tensor]
"""A network's tensors by name, as `state_dict` gives them."""


@dataclass
class Position:
    """How far training has come, and what it has measured on the way."""

    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    loss_sum: float = 0.0
    """Of this epoch's images so far."""
    correct: int = 0
    seen: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """The metrics of each finished epoch."""
    best_epoch: int = 0
    """The epoch of the lowest validation loss, counted from 1; 0 before the first is done."""
    best_loss: float = math.inf
    rate: float = 0.0
    """The peak learning rate."""
    search: dict[str, Any] | None = None
    """How that was found, if it was searched for."""


class Checkpoints:
    """The checkpoints of one training; `identity` tells it from any other training."""

    def __init__(self, directory: Path, identity: str, *, seconds: float, world: World) -> None:
        self.directory = directory
        self._seconds = seconds
        self._written = time.monotonic()
        self._world = world
        training = hashlib.sha256(f"{FORMAT} {identity}".encode()).hexdigest()[:12]
        self._prefix = f"checkpoint-{training}"

    def due(self) -> bool:
        """Whether the last one was written so long ago that it is time for another."""
        passed = time.monotonic() - self._written
        return self._world.is_main and 0 < self._seconds <= passed

    def write(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        position: Position,
        best: State,
        average: State,
    ) -> None:
        """Save a checkpoint in one step, then remove all but the newest. The main process does."""
        if not self._world.is_main:
            return
        tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in best.items()}
        tensors |= {f"average/{name}": value for name, value in average.items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
        content = bytearray(json.dumps(asdict(position)).encode())
        tensors["position"] = torch.frombuffer(content, dtype=torch.uint8)
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"{self._prefix}-{position.epoch:06d}-{position.step:08d}.safetensors"
        _save(
            {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None},
            self.directory / name,
        )
        self._remove(self._paths()[KEPT:])
        self._written = time.monotonic()

    def restore(self, network: nn.Module, optimizer: Optimizer) -> tuple[Position, State, State]:
        """Load the newest readable checkpoint of this training; without one, the start.

        Returns:
            how far that training had come, the network's state after its best epoch, and the
            moving average of its weights.

        Raises:
            UserError: there are checkpoints, and the disk gives none of them.
        """
        with self._world.together():
            newest = self._newest(network) if self._world.is_main else b""
        # The other processes may see another disk, or none of its files yet.
        content = self._world.from_main(newest)
        if not content:
            return Position(), {}, {}
        tensors = load(content)
        position = _position(tensors)
        _restore(tensors, network, optimizer)
        return position, _under("best/", tensors), _under("average/", tensors)

    def _newest(self, network: nn.Module) -> bytes:
        """The newest checkpoint that is whole; nothing where there is none. Raises UserError."""
        unread: OSError | None = None
        for path in self._paths():
            try:
                content = path.read_bytes()
            except OSError as error:
                # It may well be whole, and the disk be better the next time.
                say(f"Passed over {path.name}: {error.strerror}.")
                unread = error
                continue
            try:
                tensors = load(content)
                position = _position(tensors)
                _check_fits(network, tensors)
            except (SafetensorError, ValueError, KeyError, TypeError) as error:
                say(f"Ignored {path.name}: it cannot be read ({error}).")
                # Or it would count as the newest, for which older ones are removed.
                path.unlink(missing_ok=True)
                continue
            say(f"Resumed from {path.name}: epoch {position.epoch + 1}, step {position.step}.")
            return content
        if unread:
            raise UserError(
                f"The checkpoints in {self.directory} cannot be read: {unread.strerror}. Start the "
                "job again once they can be, or remove them to start anew."
            )
        if any(self.directory.glob("checkpoint-*")):
            say(f"Starting anew: no checkpoint in {self.directory} is of these settings and data.")
        return b""

    def remove(self) -> None:
        """Forget this training: it is done."""
        if not self._world.is_main:
            return
        self._remove(self._paths())

    def _paths(self) -> list[Path]:
        found = self.directory.glob(f"{self._prefix}-*.safetensors")
        return sorted((path for path in found if path.is_file()), reverse=True)

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove some, and what kills have left in the middle of being written."""
        for path in paths:
            path.unlink(missing_ok=True)
        for unfinished in self.directory.glob(f".{self._prefix}-*{PARTIAL}"):
            if unfinished.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                unfinished.unlink(missing_ok=True)


def _save(tensors: State, path: Path) -> None:
    """Write a file in one step, straight from the tensors' memory. Raises OSError."""
    # In a directory, where safetensors has a file of its own until it is done.
    with tempfile.TemporaryDirectory(PARTIAL, f".{path.name}.", path.parent) as directory:
        partial = Path(directory, path.name)
        try:
            save_file(tensors, partial)
        except SafetensorError as error:
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)


def _check_fits(network: nn.Module, tensors: State) -> None:
    """Raise ValueError where the tensors are another network's."""
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if own != {name: tensor.shape for name, tensor in _under("network/", tensors).items()}:
        raise ValueError("it is another network's")


def _position(tensors: State) -> Position:
    return Position(**json.loads(bytes(tensors["position"].tolist())))


def _under(prefix: str, tensors: State) -> State:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _restore(tensors: State, network: nn.Module, optimizer: Optimizer) -> None:
    network.load_state_dict(_under("network/", tensors))
    parameters = [entry for group in optimizer.param_groups for entry in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            parameter = parameters[int(index)]
            # In the parameter's own memory layout, as the optimizer would have made it.
            own = torch.empty_like(parameter) if tensor.shape == parameter.shape else tensor.clone()
            state.setdefault(int(index), {})[key] = own.copy_(tensor)
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
