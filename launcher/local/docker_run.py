"""One training in containers: one for each of its hosts, which find each other by name."""

import contextlib
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from container.errors import UserError
from launcher.local import containers
from launcher.local.layout import Host

CACHE_VOLUME, CACHE = "kennel-features", "/opt/kennel/cache"
"""Features of frozen backbones, which all trainings on one engine share."""
LOOK_SECONDS = 5.0
"""At least so long between two questions about a container that nothing is heard of any more."""
_STATE = "{{.State.Running}} {{.State.ExitCode}} {{.State.Status}}"
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
        """Create all, then start all.

        Raises:
            UserError: docker refused it. Whatever this raises, nothing is left behind.
        """
        self.base = base
        self.network: str | None = None
        self.identifiers: list[str] = []
        try:
            if len(hosts) > 1:
                name = f"kennel-{uuid.uuid4().hex}"
                self.network = containers.docker("network", "create", *containers.label(base), name)
            for host in hosts:
                self.identifiers.append(self._create(image, host, environment))
            self.followed = [
                Followed(identifier, log if host is hosts[0] else host.directory / log.name)
                for identifier, host in zip(self.identifiers, hosts, strict=True)
            ]
        except BaseException:
            remove(self.base)
            raise
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
        codes = [container.poll() for container in self.followed]
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
        for process in (*stops, *(container.client for container in self.followed)):
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


class Followed:
    """One container, started, and the client that adds what it prints to the log."""

    def __init__(self, identifier: str, log: Path) -> None:
        self.identifier = identifier
        self.log = log
        self.code: int | None = None
        self.heard = time.time()
        self.next_look = 0.0
        self._follow("start", "--attach", identifier)

    def poll(self) -> int | None:
        """The exit code; None while it runs, and while its engine does not answer.

        Its client may have lost the connection, which says nothing about the container.
        """
        if self.code is not None:
            return self.code
        if self.client.poll() is None:
            state = self.log.stat()
            if state.st_size > self.size_before:
                self.heard = state.st_mtime
        elif time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + LOOK_SECONDS
            self.code = self._ended()
        return self.code

    def _ended(self) -> int | None:
        """The exit code; None where it is followed again, or where its engine does not answer."""
        failed = self.client.returncode or 1
        try:
            said = containers.docker("inspect", "--format", _STATE, self.identifier)
        except containers.Gone:
            return failed
        except UserError:
            return None
        running, code, status = said.split()
        if running == "true":
            since = f"{self.heard:.6f}"
            self._follow("logs", "--follow", "--since", since, self.identifier)
            return None
        # One that could not be started has no code; the log says what its client said.
        return failed if status == "created" else int(code)

    def _follow(self, *arguments: str) -> None:
        with self.log.open("ab") as file:
            self.size_before = file.tell()
            self.client = subprocess.Popen(
                [containers.client(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def remove(base: Path, host: str | None = None) -> None:
    """Stop and remove a training's containers and their network, however far it had come."""
    with contextlib.suppress(UserError):
        containers.remove_all(base, host)
        for network in containers.made_for(base, "network", "ls", host=host):
            containers.docker("network", "rm", network, host=host)
