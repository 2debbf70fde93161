"""Moments on a GPU: events in its queue, which nothing waits for."""

import torch

EVERY = 10
"""An event costs the processor microseconds: one step in so many has them."""


class CudaTimer:
    """For a clock: events are read when they are past.

    Where the processor is late, as with images that are not ready, the GPU stands idle until the
    event comes, so that waiting counts to the phase that causes it.
    """

    every = EVERY

    def now(self) -> torch.cuda.Event:
        """See Timer."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def is_past(self, moment: torch.cuda.Event) -> bool:
        """See Timer."""
        return bool(moment.query())  # type: ignore[no-untyped-call]

    def between(self, first: torch.cuda.Event, second: torch.cuda.Event) -> float:
        """See Timer."""
        return float(first.elapsed_time(second)) / 1000
