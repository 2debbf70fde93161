"""The real `./serve` as a process of this machine, over loopback."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVE = Path(__file__).parents[2] / "serve"
DEADLINE_SECONDS = 60
"""Far more than anything here takes, for a machine that does much else."""


@dataclass
class Server:
    """A running `./serve`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def request(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(
                method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
            )
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def wait_until_ready(self) -> set[int]:
        """Poll /ping until it is 200; returns the statuses that came before."""
        statuses: set[int] = set()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            status, _ = self.request("GET", "/ping")
            if status == 200:
                return statuses
            statuses.add(status)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def wait(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def children(self) -> list[int]:
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(base: Path, port: int) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(base / "home"),
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "KENNEL_ENGINE": "openvino",
    }


@contextlib.contextmanager
def serving(base: Path, directory: Path, **more: str) -> Iterator[Server]:
    """Start `serve` from a foreign directory and through PATH, as SageMaker does."""
    port, log = free_port(), directory / "serve.log"
    (base / "home").mkdir(exist_ok=True)
    variables = environment(base, port) | more
    variables["PATH"] = f"{SERVE.parent}:{variables['PATH']}"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["serve"], env=variables, cwd=directory, stdout=stream, stderr=stream
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
        yield Server(process, port, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(DEADLINE_SECONDS)
