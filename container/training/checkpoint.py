"""Checkpoints: everything that a killed job needs to go on as if it had never stopped.

One safetensors file holds the weights, the optimizer's state and the position; the two newest are
kept. Files of other programs in the directory (smdebug's `metadata.json`) are left alone.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from container.atomic import write_atomically
from container.progress import say

KEPT = 2


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


class Checkpoints:
    """The checkpoints of one training; `identity` tells it from any other training."""

    def __init__(self, directory: Path, identity: str) -> None:
        self.directory = directory
        self.identity = identity

    def write(self, network: nn.Module, optimizer: Optimizer, position: Position) -> None:
        """Save a checkpoint in one step, then remove all but the newest."""
        tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
        content = save(
            {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None},
            metadata={"identity": self.identity, "position": json.dumps(asdict(position))},
        )
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"checkpoint-{position.epoch:06d}-{position.step:08d}.safetensors"
        write_atomically(self.directory / name, content)
        for path in self._paths()[KEPT:]:
            path.unlink(missing_ok=True)

    def restore(self, network: nn.Module, optimizer: Optimizer) -> Position:
        """Load the newest readable checkpoint of this training; without one, the start."""
        for path in self._paths():
            try:
                with safe_open(path, framework="pt") as file:
                    metadata = file.metadata() or {}
                    if metadata.get("identity") != self.identity:
                        say(f"Ignored {path.name}: it belongs to a training with other settings.")
                        continue
                    position = Position(**json.loads(metadata["position"]))
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                say(f"Ignored {path.name}: it cannot be read ({error}).")
                continue
            _restore(tensors, network, optimizer)
            say(f"Resumed from {path.name}: epoch {position.epoch + 1}, step {position.step}.")
            return position
        return Position()

    def remove(self) -> None:
        """Forget this training: it is done."""
        for path in self._paths():
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self.directory.glob("checkpoint-*.safetensors"), reverse=True)


def _restore(tensors: dict[str, Tensor], network: nn.Module, optimizer: Optimizer) -> None:
    network.load_state_dict(
        {
            name.removeprefix("network/"): tensor
            for name, tensor in tensors.items()
            if name.startswith("network/")
        }
    )
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
