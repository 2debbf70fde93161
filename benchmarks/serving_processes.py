"""A server in processes of its own: started, timed, weighed and stopped."""

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import Peer

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90
HIGHEST_PORT = 32_000
"""multi-model-server refuses those above 32766."""


@dataclass
class Server:
    """A running server, where it is asked, and how long it took until it answered."""

    session: int
    """All of its processes are in this session."""
    port: int
    path: str = "/invocations"
    request: Callable[[bytes], tuple[bytes, str]] = lambda body: (body, "image/jpeg")
    """The body for one image, and its content type."""
    ping_seconds: float = 0.0
    answer_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def memory(self) -> float:
        """Proportional memory of all of its processes, in MB: what they share counts once."""
        texts = [_read(f"/proc/{pid}/smaps_rollup") for pid in self._processes()]
        lines = [line for text in texts for line in text.splitlines() if line.startswith("Pss:")]
        return sum(int(line.split()[1]) for line in lines) / 1024

    def processor_seconds(self) -> float:
        """What all of its living processes have used so far."""
        ticks = sum(sum(map(int, _fields(pid)[11:13])) for pid in self._processes() if _fields(pid))
        return ticks / os.sysconf("SC_CLK_TCK")

    def post(self, body: bytes) -> tuple[int, Mapping[str, str]]:
        """Ask once about an image; the status and the headers of the answer."""
        data, kind = self.request(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", self.path, data, {"Content-Type": kind})
            answer = connection.getresponse()
            answer.read()
            return answer.status, dict(answer.getheaders())
        finally:
            connection.close()

    def _processes(self) -> list[int]:
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if _fields(pid)[3:4] == [str(self.session)]]


@contextmanager
def plain(scratch: Path, body: bytes) -> Iterator[Server]:
    """Flask, with a torch model in each of two gunicorn workers."""
    port = free_port()
    command = ["-m", "gunicorn", "--workers=2", f"--bind=127.0.0.1:{port}", "--log-level=error"]
    app = [sys.executable, *command, "benchmarks.plain_server:app"]
    variables = {"PLAIN_WEIGHTS": str(scratch / "weights.pth")}
    with _running(app, port, "/ping", variables, body) as server:
        yield server


@contextmanager
def kennel(scratch: Path, body: bytes, precision: str, **more: str) -> Iterator[Server]:
    """`serve`, as SageMaker starts it."""
    port = free_port()
    variables = {
        "SAGEMAKER_BASE_DIR": str(scratch / "job"),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "KENNEL_ENGINE": "openvino",
        "KENNEL_PRECISION": precision,
        **more,
    }
    command = [sys.executable, str(ROOT / "serve")]
    with _running(command, port, "/ping", variables, body) as server:
        yield server


@contextmanager
def peer(other: Peer, scratch: Path, body: bytes) -> Iterator[Server]:
    """Another server."""
    port = free_port()
    other.files(other.environment, scratch, port)
    command = other.command(other.environment, scratch, port)
    # TorchServe and multi-model-server leave a file there that says that one of them runs.
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        variables = other.variables(scratch, port) | {"TMPDIR": temporary}
        with _running(command, port, other.ready, variables, body, other) as server:
            yield server


def free_port() -> int:
    """A port that nobody listens on, with two more that a server may take."""
    while True:
        port = random.randrange(20_000, HIGHEST_PORT)  # noqa: S311  nothing is kept secret by it
        with socket.socket() as server, contextlib.suppress(OSError):
            server.bind(("127.0.0.1", port))
            return port


@contextmanager
def _running(
    command: list[str],
    port: int,
    ready: str,
    variables: Mapping[str, str],
    body: bytes,
    other: Peer | None = None,
) -> Iterator[Server]:
    """A process until the block ends. Raises RuntimeError where it does not answer."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | dict(variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # some servers leave workers behind
    )
    server = Server(process.pid, port)
    if other is not None:
        server.path, server.request = other.path, other.request
    try:
        for attribute, answers in (
            ("ping_seconds", lambda: _is_healthy(port, ready)),
            ("answer_seconds", lambda: server.post(body)[0] == http.client.OK),
        ):
            while not _succeeds(answers):
                waited = time.monotonic() - server.started
                if process.poll() is not None or waited > START_SECONDS:
                    raise RuntimeError(f"{Path(command[0]).name} did not start here")
                time.sleep(0.01)
            setattr(server, attribute, time.monotonic() - server.started)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _succeeds(answers: Callable[[], bool]) -> bool:
    try:
        return answers()
    except (OSError, http.client.HTTPException):
        return False


def _is_healthy(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    finally:
        connection.close()


def _fields(pid: int) -> list[str]:
    """What /proc says of a process from its state on; nothing once it has ended."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
