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


def client() -> str:
    """The command's name."""
    return os.environ.get("DOCKER", "docker")


def docker(*arguments: str) -> str:
    """Run one docker command. Raises UserError with what it said."""
    try:
        done = subprocess.run([client(), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(
            "The docker command is missing: install Docker, or work without it by --on process."
        ) from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(f"docker {arguments[0]} failed: {said}.")
    return done.stdout.strip()


def create(
    image: str, program: str, environment: Mapping[str, str], base: Path, *options: str
) -> str:
    """A container that has what is in `base`, not started yet; its id."""
    variables = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
    gpus = ["--gpus", "all"] if "nvidia" in docker("info", "--format", "{{.Runtimes}}") else []
    given = ["--shm-size", SHARED_MEMORY, *label(base), *gpus, *variables, *options]
    identifier = docker("create", *given, image, program)
    try:
        copy_in(identifier, base, Path(OPT_ML).name)
    except (UserError, OSError):
        remove(identifier)
        raise
    return identifier


def label(base: Path) -> list[str]:
    """The option that marks what is made for one job, whose directory no other job has."""
    return ["--label", f"{LABEL}={base}"]


def made_for(base: Path, *listing: str) -> list[str]:
    """The ids of a kind (`ps --all`, `network ls`) that are marked so."""
    return docker(*listing, "--quiet", "--filter", f"label={LABEL}={base}").split()


def copy_in(identifier: str, directory: Path, name: str) -> None:
    """Send the directory as a stream, with the files that its links point to, to /opt/NAME.

    Raises:
        UserError: docker refused it.
    """
    with subprocess.Popen(
        [client(), "cp", "-", f"{identifier}:/opt"],
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


def remove(identifier: str) -> None:
    """Stop and remove one container; it may be gone already."""
    with contextlib.suppress(UserError):
        docker("stop", "--time", str(GRACE_SECONDS), identifier)
    with contextlib.suppress(UserError):
        docker("rm", "--force", "--volumes", identifier)
