"""What runs the image's two programs: processes on this machine, or Docker."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from launcher.local.layout import Host


class Run(Protocol):
    """A training that was started."""

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL when the grace is over."""

    def record(self) -> dict[str, Any]:
        """How to find it again when this process is gone."""

    def collect(self) -> None:
        """Bring what it wrote to the job's directory, and leave nothing behind elsewhere."""


class Engine(Protocol):
    """Starts `train` and `serve`."""

    name: str
    most_hosts: int
    """Of how many machines it can play the part in one training."""

    def here(self) -> dict[str, Any]:
        """Which engine this is, for the record of what it is about to start."""

    def ready(self, image: str) -> None:
        """Refuse what cannot be run before anything is recorded. Raises UserError."""

    def train(
        self,
        image: str,
        base: Path,
        hosts: Sequence[Host],
        environment: Mapping[str, str],
        log: Path,
    ) -> Run:
        """Start a training whose `/opt/ml` is `base`, with what each host has besides."""

    def warm(self, environment: Mapping[str, str], log: Path) -> AbstractContextManager[None]:
        """Held around many trainings with the same environment: later ones start sooner."""

    def stop_train(self, record: Mapping[str, Any], base: Path) -> None:
        """Stop a training whose supervisor is gone."""

    def serve(
        self, image: str, base: Path, environment: Mapping[str, str], log: Path
    ) -> dict[str, Any]:
        """Start a server for the model in `base`; how to find it again, beside `here`."""

    def bring_model(self, record: Mapping[str, Any], base: Path, place: str) -> str:
        """Let a running server see the directory `place` under its base; its path there."""

    def server_runs(self, record: Mapping[str, Any]) -> bool:
        """Whether that server is still there."""

    def stop_server(self, record: Mapping[str, Any], base: Path) -> None:
        """Stop the server of the record, and containers for `base` that are in no record yet.

        Raises:
            UserError: one goes on.
        """


def engine(name: str) -> Engine:
    """The engine of that name."""
    from launcher.local.docker import DockerEngine
    from launcher.local.process import ProcessEngine

    return DockerEngine() if name == DockerEngine.name else ProcessEngine()
