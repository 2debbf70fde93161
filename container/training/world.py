"""The processes that train one network together, on one machine or on several.

A job on one processor is a world of one, in which every method here returns what it was given.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn

from container import progress
from container.errors import UserError
from container.progress import say
from container.stopping import Stopped
from container.training.synchronised import synchronise_batch_norms
from container.training.torchrun import LostConnectionError

PATIENCE = timedelta(hours=24)
"""How long a process waits for the others where one may have more to do, as to decode its images.

Not how long it waits for one that has ended: that closes its connections, which ends all waiting.
"""
PATIENCE_IN_STEP = timedelta(minutes=30)
"""The same where all take the same steps, so that one who is late so long has fallen silent."""

_STOPPED = b"\0stopped"


@dataclass(frozen=True)
class World:
    """This process's place among all of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """The place among the processes of this machine."""
    local_size: int = 1
    host: str = ""
    group: dist.ProcessGroup | None = None
    """By which the processes talk that are not in step; those that are have the default one."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes, prints and saves."""
        return self.rank == 0

    def total(self, *numbers: float) -> tuple[float, ...]:
        """The sum of each number over all processes."""
        if self.size == 1:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.group)
        return tuple(tensor.tolist())

    def any(self, condition: bool) -> bool:
        """Whether a condition holds in any process."""
        return self.total(condition)[0] > 0

    def gather(self, content: bytes) -> list[bytes]:
        """What every process gave, in the order of their ranks."""
        if self.size == 1:
            return [content]
        sizes, own = self._padded(content)
        received = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(received, own, group=self.group)
        return _unpadded(received, sizes)

    def gather_rows(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors whose rows are those of all processes, in the order of their ranks, on the CPU.

        A process without rows gives an empty mapping.
        """
        if self.size == 1:
            return dict(rows)
        content = save({name: tensor.cpu().contiguous() for name, tensor in rows.items()})
        parts = [part for part in map(load, self.gather(content)) if part]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def from_main(self, content: bytes) -> bytes:
        """What the main process gave, for all."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)])
        dist.broadcast(length, src=0, group=self.group)
        buffer = _tensor(content, int(length))
        dist.broadcast(buffer, src=0, group=self.group)
        return buffer.numpy().tobytes()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Local work at whose end all meet: what fails in one process fails in all.

        Raises:
            UserError: another process failed; says where, and why.
            Stopped: another process was asked to stop.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            if self.size == 1:
                raise
            failure = error
        try:
            outcomes = self.gather(_sentence(failure, self.host))
        finally:
            if failure:
                raise failure
        for outcome in outcomes:
            if outcome == _STOPPED:
                raise Stopped
            if outcome:
                raise UserError(outcome.decode())

    def distribute(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network whose gradients are those of all processes' images together."""
        if self.size == 1:
            return network
        synchronise_batch_norms(network, device)
        # Batch statistics are synchronised or frozen, so every process has the same buffers.
        return nn.parallel.DistributedDataParallel(network, forward_sync_buffers=False)

    def in_step(self) -> "World":
        """The same processes, which from here on wait for each other no longer than steps take."""
        return replace(self, group=None)

    def leave(self) -> "World":
        """Part from the others: from here on this process is a world of one."""
        if self.size > 1:
            dist.destroy_process_group()
        return World(host=self.host)

    def _padded(self, content: bytes) -> tuple[list[int], Tensor]:
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(content)
        dist.all_reduce(sizes, group=self.group)
        return sizes.tolist(), _tensor(content, int(sizes.max()))


@contextmanager
def joined(hosts: Sequence[str], host: str) -> Iterator[World]:
    """The world that torchrun's variables describe; without them a world of one.

    Raises:
        LostConnectionError: the others cannot be reached any more.
    """
    if "RANK" not in os.environ:
        yield World(host=host)
        return
    world = World(
        rank=int(os.environ["RANK"]),
        size=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        host=host,
    )
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(world.local_rank)
    try:
        # What is said between the processes' programs goes by gloo, gradients on GPUs by NCCL.
        backends = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
        dist.init_process_group(backends, timeout=PATIENCE_IN_STEP)
        # Every process is in it.
        patient = cast(dist.ProcessGroup, dist.new_group(timeout=PATIENCE, backend="gloo"))
        say(f"{world.size} processes on {len(hosts)} {'hosts' if len(hosts) > 1 else 'host'}.")
        if not world.is_main:
            say(f"This is number {world.rank + 1}; the first, on {hosts[0]}, says how it goes.")
            progress.silence()
        yield replace(world, group=patient)
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise LostConnectionError(
            f"{host} lost the connection to another process of this job (its hosts: "
            f"{', '.join(hosts[:10])}), which failed or was taken away; its own log says why. "
            "Start the job again: it goes on from its last checkpoint."
        ) from error
    if dist.is_initialized():
        dist.destroy_process_group()


def _is_lost_connection(error: RuntimeError) -> bool:
    """gloo's failures are plain RuntimeErrors that name its source files."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _sentence(failure: Exception | None, host: str) -> bytes:
    match failure:
        case None:
            return b""
        case Stopped():
            return _STOPPED
        case UserError():
            sentence = f"{host}: {failure}"
        case _:
            sentence = f"{host} failed with {type(failure).__name__}: {failure}"
    # Names of files, which may be in it, need not be UTF-8.
    return sentence.encode(errors="backslashreplace")


def _tensor(content: bytes, length: int) -> Tensor:
    """Bytes as a tensor of a given length, filled up with zeros."""
    tensor = torch.zeros(length, dtype=torch.uint8)
    tensor[: len(content)] = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
    return tensor


def _unpadded(parts: Sequence[Tensor], sizes: Sequence[int]) -> list[bytes]:
    return [part.numpy()[:size].tobytes() for part, size in zip(parts, sizes, strict=True)]
