"""The engine that runs the image with Docker, wherever DOCKER_HOST says that Docker is.

Nothing is mounted: files are copied in and out, so that an engine on another machine works as one
on this machine does, and results belong to the user.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from container.errors import UserError
from launcher.local import containers, docker_run, processes
from launcher.local.docker_run import DockerRun
from launcher.local.layout import Host
from launcher.local.process import ADDRESS, free_port

PORT = 8080
MOST_HOSTS = 16
"""Of a training in containers of one engine, which share its processors."""


class DockerEngine:
    """Runs the image's programs in containers."""

    name = "docker"
    most_hosts = MOST_HOSTS

    def here(self) -> dict[str, Any]:
        """This engine, as a record holds it: the variable may name another one later."""
        return {"engine": self.name, "host": containers.present_host()}

    def ready(self, image: str) -> None:
        """Refuse an engine or an image that is not there. Raises UserError."""
        containers.docker("version", "--format", "{{.Server.Version}}")
        try:
            containers.docker("image", "inspect", "--format", "{{.Id}}", image)
        except UserError:
            raise UserError(
                f"Docker has no image {image}: run `./launch.py push --on docker`, or give --image."
            ) from None

    def train(
        self,
        image: str,
        base: Path,
        hosts: Sequence[Host],
        environment: Mapping[str, str],
        log: Path,
    ) -> DockerRun:
        """Start the image's `train` in containers that have a copy of `base` as /opt/ml."""
        return DockerRun(image, base, hosts, environment, log)

    def warm(
        self, environment: Mapping[str, str], log: Path
    ) -> contextlib.AbstractContextManager[None]:
        """Each container has its own Python; there is nothing to share."""
        return contextlib.nullcontext()

    def stop_train(self, record: Mapping[str, Any], base: Path) -> None:
        """Stop and remove a training's containers whose supervisor is gone."""
        docker_run.remove(base, record.get("host"))

    def serve(
        self, image: str, base: Path, environment: Mapping[str, str], log: Path
    ) -> dict[str, Any]:
        """Start the image's `serve`, reachable from the loopback address alone.

        Raises:
            UserError: docker refused it. Whatever this raises, nothing is left running.
        """
        reached: dict[str, Any] = {}
        try:
            identifier = containers.create(
                image, "serve", environment, base, "--publish", f"{ADDRESS}::{PORT}"
            )
            containers.docker("start", identifier)
            published = containers.docker("port", identifier, f"{PORT}/tcp").splitlines()[0]
            reached = _reached(int(published.rpartition(":")[2]), log)
            # Docker keeps the log until the container is removed; this keeps it with the endpoint.
            processes.start(
                [containers.client(), "logs", "--follow", identifier],
                environment=os.environ,
                log=log,
                directory=base,
            )
        except BaseException:
            with contextlib.suppress(UserError):  # the first error is the one to tell
                self.stop_server(reached, base)
            raise
        return {"container": identifier, **reached}

    def bring_model(self, record: Mapping[str, Any], base: Path, place: str) -> str:
        """Copy a directory under the base into the container."""
        name = f"{Path(containers.OPT_ML).name}/{place}"
        containers.copy_in(str(record["container"]), base / place, name, record.get("host"))
        return f"{containers.OPT_ML}/{place}"

    def server_runs(self, record: Mapping[str, Any]) -> bool:
        """Whether the container still runs."""
        with contextlib.suppress(UserError):
            asked = ("inspect", "--format", "{{.State.Running}}", str(record["container"]))
            return containers.docker(*asked, host=record.get("host")) == "true"
        return False

    def stop_server(self, record: Mapping[str, Any], base: Path) -> None:
        """Stop and remove the container, in the record or not, and the tunnel if there is one.

        Raises:
            UserError: its engine does not answer, or does not do so.
        """
        host = record.get("host")
        if "container" in record:
            containers.remove(str(record["container"]), host)
        containers.remove_all(base, host)
        if tunnel := processes.Identity.read(record.get("tunnel", {})):
            tunnel.stop(1)


def _reached(port: int, log: Path) -> dict[str, Any]:
    """How this machine reaches a port of the engine's loopback address."""
    host = containers.present_host()
    if not host.startswith("ssh://"):
        return {"url": f"http://{ADDRESS}:{port}"}
    here = free_port()
    tunnel = processes.start(
        tunnel_arguments(host, here, port),
        environment=os.environ,
        log=log,
        directory=log.parent,
    )
    return {"url": f"http://{ADDRESS}:{here}", "tunnel": tunnel.as_record()}


def tunnel_arguments(host: str, here: int, there: int) -> list[str]:
    """The ssh command that brings a port of DOCKER_HOST's loopback address here."""
    parts = urlparse(host)
    user = f"{parts.username}@" if parts.username else ""
    port = ["-p", str(parts.port)] if parts.port else []
    forward = f"{ADDRESS}:{here}:{ADDRESS}:{there}"
    options = ["-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"]
    return ["ssh", "-N", "-L", forward, *options, *port, f"{user}{parts.hostname}"]
