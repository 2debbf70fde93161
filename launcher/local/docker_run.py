"""One training in containers: one for each of its hosts, which find each other by name."""

import contextlib
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from container.errors import UserError
from launcher.local import containers
from launcher.local.layout import Host

CACHE_VOLUME, CACHE = "kennel-features", "/opt/kennel/cache"
"""Features of frozen backbones, which all trainings on one engine share."""
_COLLECTED = ("checkpoints", "output", "model")


class DockerRun:
    """The containers of one training, started."""

    def __init__(
        self,
        image: str,
        base: Path,
        hosts: Sequence[Host],
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        """Create all, then start all. Raises UserError with nothing left behind."""
        self.base = base
        self.network: str | None = None
        self.identifiers: list[str] = []
        try:
            if len(hosts) > 1:
                name = f"kennel-{uuid.uuid4().hex}"
                self.network = containers.docker("network", "create", *containers.label(base), name)
            for host in hosts:
                self.identifiers.append(self._create(image, host, environment))
        except (UserError, OSError):
            remove(self.base)
            raise
        self.children = [
            _attached(identifier, log if host is hosts[0] else host.directory / log.name)
            for identifier, host in zip(self.identifiers, hosts, strict=True)
        ]
        self.failed_first: str | None = None

    def _create(self, image: str, host: Host, environment: Mapping[str, str]) -> str:
        given, options = dict(environment), []
        if self.network:
            # As on SageMaker, hosts have no disk in common, so each has features of its own.
            options = ["--network", self.network, "--network-alias", host.name]
            options += ["--hostname", host.name]
        else:
            given = {"KENNEL_CACHE_DIR": CACHE, **given}
            options = ["--volume", f"{CACHE_VOLUME}:{CACHE}"]
        identifier = containers.create(image, "train", given, self.base, *options)
        if host.directory != self.base:
            containers.copy_in(identifier, host.directory, Path(containers.OPT_ML).name)
        return identifier

    def poll(self) -> int | None:
        """The exit code, or None while one runs; where one fails, the others are stopped."""
        codes = [child.poll() for child in self.children]
        failed = [place for place, code in enumerate(codes) if code]
        if failed and self.failed_first is None:
            self.failed_first = self.identifiers[failed[0]]
            self._stop_all(containers.GRACE_SECONDS)
            return codes[failed[0]]
        return None if None in codes else max(code or 0 for code in codes)

    def stop(self, grace_seconds: float) -> None:
        """What `docker stop` does, to all at once: SIGTERM, and SIGKILL when the grace is over."""
        self._stop_all(grace_seconds)

    def _stop_all(self, grace_seconds: float) -> None:
        seconds = f"{grace_seconds:.0f}"
        stops = [
            subprocess.Popen(
                [containers.client(), "stop", "--time", seconds, identifier],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for identifier in self.identifiers
        ]
        for process in (*stops, *self.children):
            process.wait()

    def record(self) -> dict[str, Any]:
        """The containers, for a person who looks; they are found again by their label."""
        return {"containers": self.identifiers}

    def collect(self) -> None:
        """Copy out what they wrote, as files of this user, and remove them.

        As on SageMaker, the hosts' files come together, those of the first on top. What is said of
        a failure is what the host said that failed first.
        """
        for identifier in reversed(self.identifiers):
            self._copy_out(identifier, _COLLECTED)
        if self.failed_first:
            self._copy_out(self.failed_first, ("output",))
        remove(self.base)

    def _copy_out(self, identifier: str, names: Sequence[str]) -> None:
        for name in names:
            place = self.base / name
            place.mkdir(parents=True, exist_ok=True)
            # A training that wrote nothing there has no such directory.
            with contextlib.suppress(UserError):
                containers.docker("cp", f"{identifier}:{containers.OPT_ML}/{name}/.", str(place))


def _attached(identifier: str, log: Path) -> "subprocess.Popen[bytes]":
    """Start a container; what it prints goes to the log."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [containers.client(), "start", "--attach", identifier],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def remove(base: Path) -> None:
    """Stop and remove a training's containers and their network, however far it had come."""
    with contextlib.suppress(UserError):
        for identifier in containers.made_for(base, "ps", "--all"):
            containers.remove(identifier)
        for network in containers.made_for(base, "network", "ls"):
            containers.docker("network", "rm", network)
