"""A working directory for the launcher's tests, with no account in sight."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from launcher import cli
from launcher.local.client import LocalSageMaker
from launcher.local.jobs import JobsFolder

LAUNCH = Path(__file__).parents[2] / "launch.py"
TINY = ("weights=none", "trainable=all", "image-size=32", "epochs=1", "batch-size=32")
"""Hyperparameters of a training that takes seconds."""
ROLE = "arn:aws:iam::123456789012:role/kennel"
REGION = "eu-west-1"
"""Moto's account, and where it works in these tests."""


@dataclass(frozen=True)
class Answer:
    """What one command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Workspace:
    """A directory that launch.py is run in."""

    path: Path
    data: Path

    def run(self, *arguments: str | Path) -> Answer:
        """Run a command inside this process, which saves the time of starting Python."""
        out, err = io.StringIO(), io.StringIO()
        with (
            inside(self.path),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = cli.main([str(argument) for argument in arguments])
        return Answer(code, out.getvalue(), err.getvalue())

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Run the real ./launch.py as a process of its own."""
        return subprocess.Popen(
            [sys.executable, str(LAUNCH), *map(str, arguments)],
            cwd=self.path,
            env=scrubbed(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts what it runs in the background with Ctrl-C ignored, these tests too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    @property
    def client(self) -> LocalSageMaker:
        """The client that the commands use here."""
        return LocalSageMaker(JobsFolder(self.path / ".kennel/jobs"), "process")

    def clean(self) -> None:
        """Stop what was left running."""
        self.run("delete", "--yes")


@contextlib.contextmanager
def inside(directory: Path) -> Iterator[None]:
    """This process in another working directory (`contextlib.chdir` is Python 3.11's)."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def scrubbed() -> dict[str, str]:
    """The environment without anything that leads to an account or to the developer's choices."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "KENNEL_", "SAGEMAKER_"))
    }
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return kept | nowhere | {"AWS_EC2_METADATA_DISABLED": "true"}


@contextlib.contextmanager
def no_account() -> Iterator[None]:
    """The scrubbed environment, for as long as it lasts."""
    before, clean = dict(os.environ), scrubbed()
    os.environ.clear()
    os.environ.update(clean)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def aws(service: str) -> Any:
    """A client of moto's server, which the environment names."""
    return boto3.client(service)


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Look again and again until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {seconds} seconds"
        time.sleep(0.1)
