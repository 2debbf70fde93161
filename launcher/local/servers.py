"""One endpoint's servers: which answers, which is to take its place, which are to be stopped."""

import contextlib
import http.client
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.errors import UserError
from launcher import refusals
from launcher.local import layout, loopback, multi_model, processes
from launcher.local.engines import engine
from launcher.local.jobs import ENDPOINT, JobsFolder, local_path

DEFAULT_START_SECONDS = 240
PING_SECONDS = 2.0
"""As long as SageMaker waits for an answer to a ping."""


def announcement(engine_name: str, config: str) -> dict[str, Any]:
    """What is recorded of a server before it is started, to be found when that is interrupted."""
    starter = processes.Identity.of(os.getpid())
    return {
        **engine(engine_name).here(),
        "config": config,
        # Its own, so that no other server of the endpoint is ever taken for it.
        "place": f"{config}-{secrets.token_hex(4)}",
        "starter": starter.as_record() if starter else {},
    }


@dataclass(frozen=True)
class Servers:
    """The servers of one endpoint, as its record has them.

    `server` answers, `next` is to take its place, and each of `retired` is to be stopped.
    """

    folder: JobsFolder
    name: str

    def record(self, operation: str = "DescribeEndpoint") -> dict[str, Any]:
        """The endpoint's record. Raises ClientError where there is none."""
        return self.folder.find(ENDPOINT, self.name, operation)

    def base(self, server: Mapping[str, Any]) -> Path:
        """A server's `/opt/ml`, as it lies on this machine."""
        return self.folder.directory(ENDPOINT, self.name) / str(server["place"]) / "opt-ml"

    def start(
        self, variant: Mapping[str, Any], container: Mapping[str, Any], announced: dict[str, Any]
    ) -> None:
        """Start the server that the record has as `next`; the endpoint is locked.

        Where that fails, the record says why. Raises nothing but what interrupts it.
        """
        server = announced
        seconds = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_START_SECONDS)
        try:
            server = {**announced, **self._serve(container, announced)}
            server["deadline"] = time.time() + seconds
            self.folder.put(ENDPOINT, self.name, next=server)
        except (UserError, OSError) as error:
            said = refusals.sentence(error) if isinstance(error, OSError) else str(error)
            self._give_up(server, said)
        except BaseException:
            self._give_up(server, "The start of its server was interrupted.")
            raise

    def _serve(self, container: Mapping[str, Any], announced: Mapping[str, Any]) -> dict[str, Any]:
        base, environment = self.base(announced), dict(container.get("Environment", {}))
        if container.get("Mode") == multi_model.MODE:
            environment |= multi_model.ENVIRONMENT
            (base / multi_model.MODELS).mkdir(parents=True)
        else:
            layout.unpack(local_path(container["ModelDataUrl"]), base / "model")
        log = self.folder.directory(ENDPOINT, self.name) / "log.txt"
        return engine(announced["engine"]).serve(container["Image"], base, environment, log)

    def _give_up(self, server: Mapping[str, Any], reason: str) -> None:
        retired = [*self.record().get("retired", ()), server]
        self.folder.put(ENDPOINT, self.name, next=None, failure=reason, retired=retired)

    def advance(self) -> None:
        """A server that is starting takes over when it answers pings, or is given up."""
        starting = self.record().get("next")
        if starting and (change := _outcome(starting)):
            with self.folder.locked(ENDPOINT, self.name):
                record = self.record()
                if record.get("next") == starting:  # no other command has seen to it meanwhile
                    left = record.get("server") if "server" in change else starting
                    retired = [*record.get("retired", ()), *([left] if left else [])]
                    self.folder.put(ENDPOINT, self.name, next=None, retired=retired, **change)
        for server in self.record().get("retired", ()):
            # What cannot be stopped now is stopped when somebody looks again.
            with contextlib.suppress(UserError):
                self._stop_retired(server)

    def _stop_retired(self, server: Mapping[str, Any]) -> None:
        self._stop(server)
        with self.folder.locked(ENDPOINT, self.name):
            left = [other for other in self.record().get("retired", ()) if other != server]
            self.folder.put(ENDPOINT, self.name, retired=left)

    def status(self, record: Mapping[str, Any]) -> str:
        """The endpoint's status, in SageMaker's words, as a record has it."""
        server = record.get("server")
        if record.get("next"):
            return "Updating" if server else "Creating"
        if server:
            _reap(server)
            return "InService" if engine(server["engine"]).server_runs(server) else "Failed"
        return "Failed"

    def stop_all(self) -> None:
        """Stop every server, however far it had come. Raises UserError where one cannot be."""
        record = self.record("DeleteEndpoint")
        for server in (record.get("server"), record.get("next"), *record.get("retired", ())):
            if server:
                self._stop(server)

    def _stop(self, server: Mapping[str, Any]) -> None:
        engine(server["engine"]).stop_server(server, self.base(server))


def _outcome(starting: Mapping[str, Any]) -> dict[str, Any] | None:
    """What has come of a server that was starting, as changes of the record; None if nothing."""
    if "url" not in starting:
        starter = processes.Identity.read(starting["starter"])
        if starter and starter.runs():
            return None
        return {"failure": "The command that was starting its server was killed."}
    _reap(starting)
    if answers(starting["url"]):
        return {"server": starting, "config": starting["config"]}
    if not engine(starting["engine"]).server_runs(starting):
        return {"failure": "The server ended before it answered a ping; its log says why."}
    if time.time() > starting["deadline"]:
        reason = "The server did not pass the ping health check in time; its log says why."
        return {"failure": reason}
    return None


def _reap(server: Mapping[str, Any]) -> None:
    """A server that this very process started and that has ended is not to count as running."""
    if identity := processes.Identity.read(server):
        processes.reap(identity.pid)


def answers(url: str) -> bool:
    """Whether a server says that its model is ready."""
    try:
        with loopback.send(f"{url}/ping", PING_SECONDS) as answer:
            return answer.status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
