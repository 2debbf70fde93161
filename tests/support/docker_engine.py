"""A Docker engine for tests: its client, and containers that are removed by their ids."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

CLIENT = os.environ.get("DOCKER", "docker")


def docker(*arguments: str, timeout: float = 120) -> str:
    """Run a docker command; what it prints on stdout. Fails the test when the command fails."""
    done = subprocess.run(
        [CLIENT, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def require_engine() -> None:
    """Skip where no engine answers; fail instead where KENNEL_REQUIRE_ENGINE=1 promises one."""
    if shutil.which(CLIENT) is None:
        skip_or_fail(f"there is no command {CLIENT}")
    answer = subprocess.run([CLIENT, "version"], capture_output=True, check=False, timeout=60)
    if answer.returncode != 0:
        skip_or_fail("no Docker engine answers")


def skip_or_fail(reason: str) -> None:
    """Skip a test for what the machine lacks, unless the machine is meant to have everything."""
    if os.environ.get("KENNEL_REQUIRE_ENGINE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Ask again and again until the condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


class Container:
    """One container of this test session."""

    def __init__(self, identifier: str) -> None:
        self.identifier = identifier

    def wait(self, *, seconds: float) -> int:
        """Wait until the program ends; its exit code."""
        return int(docker("wait", self.identifier, timeout=seconds))

    def stop(self, *, grace: int) -> int:
        """What SageMaker does: SIGTERM, and SIGKILL after the grace. The exit code."""
        docker("stop", "--time", str(grace), self.identifier, timeout=grace + 30)
        return self.wait(seconds=10)

    def logs(self) -> str:
        """Everything the program printed, stdout and stderr."""
        return subprocess.run(
            [CLIENT, "logs", self.identifier],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    def running(self) -> bool:
        """Whether the program still runs."""
        return docker("inspect", "--format", "{{.State.Running}}", self.identifier) == "true"

    def address(self) -> str:
        """Where this machine reaches the published port 8080."""
        return docker("port", self.identifier, "8080/tcp").splitlines()[0]

    def execute(self, *command: str) -> str:
        """Run a command beside the program; what it prints on stdout."""
        return docker("exec", self.identifier, *command)


@contextmanager
def container(image: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
    """A started container, removed at the end whatever became of it."""
    identifier = docker("create", *options, image, *command)
    try:
        docker("start", identifier)
        yield Container(identifier)
    finally:
        docker("rm", "--force", "--volumes", identifier)
