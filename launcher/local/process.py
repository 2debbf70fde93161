"""The engine that needs nothing: `./train` and `./serve` as processes of this machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from launcher.local import forked, processes
from launcher.local.layout import Host

REPOSITORY = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1"
SERVER_GRACE_SECONDS = 30.0
"""As long as SageMaker gives a container that serves."""


class ProcessEngine:
    """Runs the image's programs without the image."""

    name = "process"
    most_hosts = 1  # hosts find each other by name, which processes of one machine do not have

    def here(self) -> dict[str, Any]:
        """This machine, which has no more to be told of."""
        return {"engine": self.name}

    def ready(self, image: str) -> None:
        """There is nothing to wait for: the programs are beside this file."""

    def train(
        self,
        image: str,
        base: Path,
        hosts: Sequence[Host],
        environment: Mapping[str, str],
        log: Path,
    ) -> "ProcessRun | forked.ForkedRun":
        """Start `./train`; its `/opt/ml` is `base`, and what it prints goes to the log."""
        given = _environment(base, environment)
        if run := forked.train(given, base, log):
            return run
        with log.open("ab") as file:
            child = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "train")],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=given,
                cwd=base,
                start_new_session=True,
            )
        return ProcessRun(child)

    def warm(self, environment: Mapping[str, str], log: Path) -> AbstractContextManager[None]:
        """Trainings that start while this is held need not import torch anew."""
        given = {"PYTHONPATH": search_path(), **environment}
        return forked.server(_environment(Path(), given), log)

    def stop_train(self, record: Mapping[str, Any], base: Path) -> None:
        """Stop a training whose supervisor is gone."""
        if identity := processes.Identity.read(record):
            identity.stop(SERVER_GRACE_SECONDS)

    def serve(
        self, image: str, base: Path, environment: Mapping[str, str], log: Path
    ) -> dict[str, Any]:
        """Start `./serve` on a free port of the loopback address."""
        port = free_port()
        given = {**environment, "SAGEMAKER_BIND_TO_PORT": str(port)}
        identity = processes.start(
            [sys.executable, str(REPOSITORY / "serve")],
            environment=_environment(base, given),
            log=log,
            directory=base,
        )
        return {**identity.as_record(), "url": f"http://{ADDRESS}:{port}"}

    def bring_model(self, record: Mapping[str, Any], base: Path, place: str) -> str:
        """The server sees every directory of this machine."""
        return str(base / place)

    def server_runs(self, record: Mapping[str, Any]) -> bool:
        """Whether the process is still there."""
        identity = processes.Identity.read(record)
        return identity is not None and identity.runs()

    def stop_server(self, record: Mapping[str, Any], base: Path) -> None:
        """SIGTERM, and SIGKILL after as long as SageMaker waits."""
        if identity := processes.Identity.read(record):
            identity.stop(SERVER_GRACE_SECONDS)


class ProcessRun:
    """One `./train`."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self.child = child

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.child.poll()

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL to it and its children when the grace is over."""
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()

    def record(self) -> dict[str, Any]:
        """The process, to find it again when its supervisor is gone."""
        identity = processes.Identity.of(self.child.pid)
        return identity.as_record() if identity else {}

    def collect(self) -> None:
        """It wrote to the job's directory itself."""


def _environment(base: Path, given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without its credentials, as a container has none of them."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_") and name != forked.VARIABLE
    }
    beside_python = str(Path(sys.executable).parent)
    return {
        **inherited,
        "PATH": os.pathsep.join((beside_python, inherited.get("PATH", os.defpath))),
        "PYTHONUNBUFFERED": "1",
        "SAGEMAKER_BASE_DIR": str(base),
        **given,
    }


def search_path() -> str:
    """PYTHONPATH with this repository first, for a program that is started as a module."""
    return os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])
