"""Trainings forked from one process that has imported torch already: a tuning's trials.

Each is a process of its own all the same, with its own directory, log and exit code; only the
seconds of importing are shared. The server is `container.training.fork_server`.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.local import processes

VARIABLE = "KENNEL_FORK_SERVER"
"""Names the server's socket to the processes that look after trials."""
MODULE = "container.training.fork_server"
POLL_SECONDS = 0.05
_WAITING = 100


@contextlib.contextmanager
def server(environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """A server for as long as this lasts; trainings that it has started may last longer."""
    # A directory that nobody else may enter, with a path short enough for a socket.
    with tempfile.TemporaryDirectory(prefix="kennel-") as directory:
        path = str(Path(directory, "orders"))
        with socket.socket(socket.AF_UNIX) as listener, log.open("ab") as file:
            listener.bind(path)
            listener.listen(_WAITING)
            process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        outer = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = path
        try:
            yield
        finally:
            del os.environ[VARIABLE]
            if outer is not None:
                os.environ[VARIABLE] = outer
            process.communicate()


def train(environment: Mapping[str, str], directory: Path, log: Path) -> "ForkedRun | None":
    """Start a training through the server; None where there is no server, or not any more."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    order = {"environment": dict(environment), "directory": str(directory), "log": str(log)}
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        connection.sendall(f"{json.dumps(order)}\n".encode())
        return ForkedRun(connection)
    except (OSError, ValueError):
        connection.close()
        return None


class ForkedRun:
    """One training, known by its process; the server's messages say how it ends."""

    def __init__(self, connection: socket.socket) -> None:
        """Raises ValueError where the server ends before it has started the training."""
        self._connection = connection
        self._received = b""
        self._code: int | None = None
        pid = int(self._message().get("pid", 0))
        if not pid:
            raise ValueError("the server has ended")
        self.identity = processes.Identity.of(pid) or processes.Identity(pid, "ended")
        connection.setblocking(False)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self._code is None:
            try:
                self._code = self._message().get("code")
            except BlockingIOError:
                return None
            if self._code is None and not self.identity.runs():
                # Who would have told is gone too, as when everything here is killed.
                self._code = -signal.SIGKILL
            if self._code is not None:
                self._connection.close()
        return self._code

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL to it and its children when the grace is over."""
        self.identity.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.identity.pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)

    def record(self) -> dict[str, Any]:
        """The process, to find it again when its supervisor is gone."""
        return self.identity.as_record()

    def collect(self) -> None:
        """It wrote to the job's directory itself."""

    def _message(self) -> dict[str, int]:
        """The next line; nothing at the end. Raises BlockingIOError where it is not there yet."""
        while b"\n" not in self._received:
            try:
                part = self._connection.recv(4096)
            except ConnectionResetError:
                part = b""
            if not part:
                return {}
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, int] = json.loads(line)
        return message
