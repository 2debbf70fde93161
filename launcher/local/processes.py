"""Processes that outlive the launcher, known again by their id and start time, stopped by both."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
"""Where Linux says what runs; other systems have `ps` alone."""


@dataclass(frozen=True)
class Identity:
    """One process; a later process that was given the same id has another start time."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The running process with this id; a zombie does not run."""
        state, started = _state(pid)
        return None if state in ("", "Z", "X") else cls(pid, started)

    @classmethod
    def read(cls, record: Mapping[str, object]) -> "Identity | None":
        """What `as_record` wrote."""
        if "pid" not in record:
            return None
        return cls(int(str(record["pid"])), str(record["started"]))

    def as_record(self) -> dict[str, object]:
        """The form that a JSON file holds."""
        return {"pid": self.pid, "started": self.started}

    def runs(self) -> bool:
        """Whether this very process is still there."""
        return Identity.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process, if it is still there."""
        if self.runs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, then after some time SIGKILL to it and to what it started in its session."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while self.runs() and time.monotonic() < deadline:
            reap(self.pid)
            time.sleep(0.05)
        if self.runs():
            # Its group is its own: it was started in a new session.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        reap(self.pid)


def start(
    arguments: Sequence[str], *, environment: Mapping[str, str], log: Path, directory: Path
) -> Identity:
    """Start a process in a session of its own, with everything that it prints added to a file."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
        )
    # Popen would complain about a process that it leaves running, which is what is wanted.
    process.returncode = 0
    return Identity.of(process.pid) or Identity(process.pid, "ended")


def reap(pid: int) -> None:
    """Take the exit code of an ended child of this process, so that no zombie is left."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _state(pid: int) -> tuple[str, str]:
    """One letter for the state, and the start time; empty where there is no such process."""
    if (PROCESSES / "self/stat").exists():
        try:
            # The program's name is in brackets and may hold anything; the state comes after it.
            fields = (PROCESSES / f"{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return "", ""
        return fields[0], fields[19]
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        # The same words for the same moment, wherever the user is and whatever the season.
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        check=False,
    ).stdout.split(None, 1)
    return (answer[0][0], answer[1].strip()) if len(answer) == 2 else ("", "")
