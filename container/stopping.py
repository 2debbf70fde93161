"""SIGTERM: SageMaker and `docker stop` send it, and kill the process 120 or 10 seconds later."""

import signal
from types import FrameType


class StopSignal:
    """Remembers that the job was asked to stop; training looks at it after every step.

    A Python process that is PID 1 in its container ignores SIGTERM unless it installs a handler.
    """

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Handle SIGTERM and Ctrl-C from now on; a second Ctrl-C stops at once."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def check(self) -> None:
        """Raise Stopped if the job was asked to stop."""
        if self.requested:
            raise Stopped

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Stopped(Exception):  # noqa: N818 - not an error: the job was asked to stop, and does
    """The job was asked to stop before it was done."""
