"""The docker command: containers that get copies of files, known by their ids alone."""

import contextlib
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from container.errors import UserError

OPT_ML = "/opt/ml"
SHARED_MEMORY = "1g"
"""Docker's own 64 MB are too few for PyTorch's workers."""
GRACE_SECONDS = 30
LABEL = "kennel.directory"
HOST = "DOCKER_HOST"
_GONE = ("no such container", "no such object", "is already in progress")


class Gone(UserError):  # noqa: N818 - named for what is so
    """There is no such container, or it is being removed at this moment."""


def client() -> str:
    """The command's name."""
    return os.environ.get("DOCKER", "docker")


def present_host() -> str:
    """The engine that commands go to now: DOCKER_HOST's value, empty for this machine's own."""
    return os.environ.get(HOST, "")


def environment(host: str | None) -> dict[str, str]:
    """A docker command's: this process's own, or that for what `present_host` was earlier."""
    if host is None:
        return dict(os.environ)
    others = {name: value for name, value in os.environ.items() if name != HOST}
    return {**others, HOST: host} if host else others


def docker(*arguments: str, host: str | None = None) -> str:
    """Run one docker command; its words. Raises Gone, UserError with what it said."""
    try:
        done = subprocess.run(
            [client(), *arguments],
            capture_output=True,
            text=True,
            env=environment(host),
            check=False,
        )
    except FileNotFoundError:
        raise UserError(
            "The docker command is missing: install Docker, or work without it by --on process."
        ) from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        kind = Gone if any(text in said.lower() for text in _GONE) else UserError
        raise kind(f"docker {arguments[0]} failed: {said}.")
    return done.stdout.strip()


def create(
    image: str, program: str, environment: Mapping[str, str], base: Path, *options: str
) -> str:
    """A container that has what is in `base`, not started yet; its id.

    Where this is interrupted there may be one whose id nobody knows: `remove_all` finds it.

    Raises:
        UserError: docker refused it.
    """
    variables = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
    gpus = ["--gpus", "all"] if "nvidia" in docker("info", "--format", "{{.Runtimes}}") else []
    given = ["--shm-size", SHARED_MEMORY, *label(base), *gpus, *variables, *options]
    identifier = docker("create", *given, image, program)
    copy_in(identifier, base, Path(OPT_ML).name)
    return identifier


def label(base: Path) -> list[str]:
    """The option that marks what is made for one job, whose directory no other job has."""
    return ["--label", f"{LABEL}={base}"]


def made_for(base: Path, *listing: str, host: str | None = None) -> list[str]:
    """The ids of a kind (`ps --all`, `network ls`) that are marked so. Raises UserError."""
    given = (*listing, "--quiet", "--filter", f"label={LABEL}={base}")
    return docker(*given, host=host).split()


def copy_in(identifier: str, directory: Path, name: str, host: str | None = None) -> None:
    """Send the directory as a stream, with the files that its links point to, to /opt/NAME.

    Raises:
        UserError: docker refused it.
    """
    with subprocess.Popen(
        [client(), "cp", "-", f"{identifier}:/opt"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(host),
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


def remove(identifier: str, host: str | None = None) -> None:
    """Stop and remove one container, which may be gone already. Raises UserError."""
    with contextlib.suppress(UserError):  # what is in the way of both, the second says
        docker("stop", "--time", str(GRACE_SECONDS), identifier, host=host)
    with contextlib.suppress(Gone):
        docker("rm", "--force", "--volumes", identifier, host=host)


def remove_all(base: Path, host: str | None = None) -> None:
    """Stop and remove what was made for one job, in a record or not. Raises UserError."""
    for identifier in made_for(base, "ps", "--all", host=host):
        remove(identifier, host)
