"""The engine that runs the image with Docker, wherever DOCKER_HOST says that Docker is.

Nothing is mounted: files are copied in and out, so that an engine on another machine works as one
on this machine does, and results belong to the user. Containers are known by their ids alone.
"""

import contextlib
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from container.errors import UserError
from launcher.local import processes
from launcher.local.process import ADDRESS, free_port

OPT_ML = "/opt/ml"
PORT = 8080
SHARED_MEMORY = "1g"
"""Docker's own 64 MB are too few for PyTorch's workers."""
SERVER_GRACE_SECONDS = 30
CACHE_VOLUME, CACHE = "kennel-features", "/opt/kennel/cache"
"""Features of frozen backbones, which all trainings on one engine share."""
_COLLECTED = ("model", "output", "checkpoints")


class DockerEngine:
    """Runs the image's programs in containers."""

    name = "docker"
    most_hosts = 1

    def ready(self, image: str) -> None:
        """Refuse an engine or an image that is not there. Raises UserError."""
        _docker("version", "--format", "{{.Server.Version}}")
        try:
            _docker("image", "inspect", "--format", "{{.Id}}", image)
        except UserError:
            raise UserError(
                f"Docker has no image {image}: run `./launch.py push --on docker`, or give --image."
            ) from None

    def train(
        self, image: str, base: Path, environment: Mapping[str, str], log: Path
    ) -> "DockerRun":
        """Start the image's `train` in a container that has a copy of `base` as /opt/ml."""
        given = {"KENNEL_CACHE_DIR": CACHE, **environment}
        identifier = _create(image, "train", given, base, "--volume", f"{CACHE_VOLUME}:{CACHE}")
        with log.open("ab") as file:
            child = subprocess.Popen(
                [_client(), "start", "--attach", identifier],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return DockerRun(identifier, base, child)

    def warm(
        self, environment: Mapping[str, str], log: Path
    ) -> contextlib.AbstractContextManager[None]:
        """Each container has its own Python; there is nothing to share."""
        return contextlib.nullcontext()

    def stop_train(self, record: Mapping[str, Any]) -> None:
        """Stop and remove a training's container whose supervisor is gone."""
        if "container" in record:
            _remove(str(record["container"]))

    def serve(
        self, image: str, base: Path, environment: Mapping[str, str], log: Path
    ) -> dict[str, Any]:
        """Start the image's `serve`, reachable from the loopback address alone."""
        identifier = _create(image, "serve", environment, base, "--publish", f"{ADDRESS}::{PORT}")
        _docker("start", identifier)
        # Docker keeps the log until the container is removed; this keeps it beside the endpoint.
        processes.start(
            [_client(), "logs", "--follow", identifier],
            environment=os.environ,
            log=log,
            directory=base,
        )
        published = _docker("port", identifier, f"{PORT}/tcp").splitlines()[0]
        return {"container": identifier, **_reached(int(published.rpartition(":")[2]), log)}

    def bring_model(self, record: Mapping[str, Any], base: Path, place: str) -> str:
        """Copy a directory under the base into the container."""
        _copy_in(str(record["container"]), base / place, f"{Path(OPT_ML).name}/{place}")
        return f"{OPT_ML}/{place}"

    def server_runs(self, record: Mapping[str, Any]) -> bool:
        """Whether the container still runs."""
        with contextlib.suppress(UserError):
            state = _docker("inspect", "--format", "{{.State.Running}}", record["container"])
            return state == "true"
        return False

    def stop_server(self, record: Mapping[str, Any]) -> None:
        """Stop and remove the container, and the tunnel to it if there is one."""
        _remove(str(record["container"]))
        if tunnel := processes.Identity.read(record.get("tunnel", {})):
            tunnel.stop(1)


class DockerRun:
    """One training in a container."""

    def __init__(self, identifier: str, base: Path, child: "subprocess.Popen[bytes]") -> None:
        self.identifier = identifier
        self.base = base
        self.child = child

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.child.poll()

    def stop(self, grace_seconds: float) -> None:
        """What `docker stop` does: SIGTERM, and SIGKILL when the grace is over."""
        _docker("stop", "--time", f"{grace_seconds:.0f}", self.identifier)
        self.child.wait()

    def record(self) -> dict[str, Any]:
        """The container, to find it again when its supervisor is gone."""
        return {"container": self.identifier}

    def collect(self) -> None:
        """Copy out what it wrote, as files of this user, and remove the container."""
        for name in _COLLECTED:
            place = self.base / name
            place.mkdir(parents=True, exist_ok=True)
            # A training that wrote nothing there has no such directory.
            with contextlib.suppress(UserError):
                _docker("cp", f"{self.identifier}:{OPT_ML}/{name}/.", str(place))
        _remove(self.identifier)


def _client() -> str:
    return os.environ.get("DOCKER", "docker")


def _docker(*arguments: str) -> str:
    """Run one docker command. Raises UserError with what it said."""
    try:
        done = subprocess.run([_client(), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(
            "The docker command is missing: install Docker, or work without it by --on process."
        ) from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(f"docker {arguments[0]} failed: {said}.")
    return done.stdout.strip()


def _create(
    image: str, program: str, environment: Mapping[str, str], base: Path, *options: str
) -> str:
    """A container that has what is in `base`, not started yet; its id."""
    variables = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
    gpus = ["--gpus", "all"] if "nvidia" in _docker("info", "--format", "{{.Runtimes}}") else []
    identifier = _docker(
        "create", "--shm-size", SHARED_MEMORY, *gpus, *variables, *options, image, program
    )
    try:
        _copy_in(identifier, base, Path(OPT_ML).name)
    except (UserError, OSError):
        _remove(identifier)
        raise
    return identifier


def _copy_in(identifier: str, directory: Path, name: str) -> None:
    """Send the directory as a stream, with the files that its links point to, to /opt/NAME."""
    with subprocess.Popen(
        [_client(), "cp", "-", f"{identifier}:/opt"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as copy:
        assert copy.stdin  # noqa: S101 - it is a pipe, as asked for
        with (
            contextlib.suppress(BrokenPipeError),
            tarfile.open(fileobj=copy.stdin, mode="w|", dereference=True) as stream,
        ):
            stream.add(directory, arcname=name, filter=_for_root)
        with contextlib.suppress(BrokenPipeError):
            copy.stdin.close()
        said = copy.stderr.read().decode("utf-8", "replace").strip() if copy.stderr else ""
    if copy.returncode:
        raise UserError(f"docker cp failed: {said}.")


def _for_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """SageMaker's containers run as root, and find their files to be root's."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _remove(identifier: str) -> None:
    """Stop and remove one container; it may be gone already."""
    with contextlib.suppress(UserError):
        _docker("stop", "--time", str(SERVER_GRACE_SECONDS), identifier)
    with contextlib.suppress(UserError):
        _docker("rm", "--force", "--volumes", identifier)


def _reached(port: int, log: Path) -> dict[str, Any]:
    """How this machine reaches a port of the engine's loopback address."""
    host = os.environ.get("DOCKER_HOST", "")
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
