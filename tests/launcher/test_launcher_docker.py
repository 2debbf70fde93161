"""What is particular to `--on docker`, most of it without an engine."""

import os
from pathlib import Path

import pytest
from docker_engine import docker
from launcher_workspace import TINY, Workspace, wait_until

from container.errors import UserError
from launcher.local.docker import DockerEngine, tunnel_arguments

pytest_plugins = ("launcher_fixtures",)


def test_an_engine_that_is_reached_by_ssh_has_a_tunnel_to_its_loopback_address() -> None:
    assert tunnel_arguments("ssh://me@far:2222", 5000, 32768) == [
        *("ssh", "-N", "-L", "127.0.0.1:5000:127.0.0.1:32768"),
        *("-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-p", "2222", "me@far"),
    ]
    assert tunnel_arguments("ssh://far", 1, 2)[-1] == "far"


def test_without_the_docker_command_the_way_out_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER", "no-such-docker")
    answer = workspace.run("train", "--on", "docker", "--data", workspace.data)
    assert answer.code == 1
    assert "The docker command is missing: install Docker" in answer.stderr
    assert "FAULT  Docker" in workspace.run("doctor", "--on", "docker").stdout


def test_what_docker_says_is_passed_on(workspace: Workspace, tmp_path: Path) -> None:
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    fake.chmod(0o755)
    os.environ["DOCKER"] = str(fake)
    with pytest.raises(UserError, match="Cannot connect to the Docker daemon"):
        DockerEngine().ready("kennel")


def left(image: str) -> set[str]:
    """The containers of an image, and the networks that there are."""
    of_image = docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}")
    return {*of_image.split(), *docker("network", "ls", "--quiet").split()}


@pytest.mark.container
@pytest.mark.timeout(900)
def test_a_stopped_container_keeps_its_model_and_leaves_nothing(
    workspace: Workspace, image: str
) -> None:
    before = left(image)
    started = workspace.run(
        *("train", "--data", workspace.data, "--set", *TINY[:3], "epochs=500", "--no-wait"),
        *("--on", "docker", "--image", image),
    )
    assert started.code == 0, started.stderr
    wait_until(lambda: "epoch 2/" in workspace.run("logs").stdout)
    workspace.run("delete", "--yes")
    assert "stopped after" in workspace.run("logs", "--follow").stdout
    assert left(image) == before
    assert workspace.run("deploy").code == 0
