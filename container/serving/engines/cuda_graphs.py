"""CUDA graphs: work on a device that is recorded once, and launched by a single call ever after.

A small batch takes the device less time than Python needs to launch its kernels one by one.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch

WARM_UPS = 3
"""Passes before a capture, in which libraries choose algorithms and take what memory they keep."""

_turn = threading.Lock()
"""Held while a graph is captured or replayed: what else is queued on its stream during a capture
would become a part of it."""


class GraphRecorder:
    """Captures one model's graphs, which share their memory. It is freed with the last of them."""

    _failed: ClassVar[bool] = False
    """Whether a capture failed in this process: torch's allocator believes that it still goes on,
    so that another would fail as well."""

    def __init__(self, device: torch.device) -> None:
        """What the calling thread has queued for the device so far is waited for."""
        self._pool = torch.cuda.graph_pool_handle()
        queued = torch.cuda.current_stream(device)
        with _turn:
            self._stream = _stream(device)
            self._stream.wait_stream(queued)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Only this thread uses the graphs' stream, and what it does on the device goes there."""
        with _turn, torch.cuda.stream(self._stream):
            yield

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture work that waits for nothing and sends nothing to the device. Raises RuntimeError.

        The graph keeps none of the tensors alive that the work uses.
        """
        if GraphRecorder._failed:
            raise RuntimeError("a capture failed earlier in this process")
        for _ in range(WARM_UPS):
            work()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                # Other threads may meanwhile load models, or explain answers, on other streams.
                capture_error_mode="thread_local",
            ):
                work()
        except RuntimeError:
            GraphRecorder._failed = True
            raise
        return graph.replay


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all models: cuBLAS has a workspace for each stream, whose address is in the graphs,
    and two graphs with the same workspace must not run at once.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def give_back_freed_memory() -> None:
    """Return to the device what unloaded models had; torch would keep it for the next."""
    with _turn:  # torch does not allow it during a capture
        if not GraphRecorder._failed:
            torch.cuda.empty_cache()  # which does nothing in a process that uses no device
