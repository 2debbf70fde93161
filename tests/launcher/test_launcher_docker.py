"""The same command lines with `--on docker`; and what of it needs no engine."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import docker, require_engine
from launcher_workspace import TINY, Workspace, wait_until

from container.errors import UserError
from launcher.local.docker import DockerEngine, tunnel_arguments

pytest_plugins = ("launcher_fixtures",)

ROOT = Path(__file__).parents[2]


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


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    require_engine()
    if given := os.environ.get("KENNEL_TEST_IMAGE"):
        yield given
        return
    base = os.environ.get("KENNEL_BASE_IMAGE")
    options = ("--base-image", base) if base else ()
    done = subprocess.run(
        [ROOT / "build_and_push.sh", "--local", "--tag", f"test-{uuid.uuid4().hex}", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    name = done.stdout.splitlines()[-1]
    yield name
    docker("image", "rm", name)


def containers(image: str) -> list[str]:
    return docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}").split()


@pytest.mark.container
@pytest.mark.timeout(1800)
def test_the_journey_is_the_same_with_docker(
    workspace: Workspace, trained: Workspace, image: str
) -> None:
    before = containers(image)
    journey = ("--on", "docker", "--image", image)
    answer = workspace.run("train", "--data", workspace.data, "--set", *TINY, *journey, "--json")
    assert answer.code == 0, answer.stderr
    deployed = workspace.run("deploy")
    assert deployed.code == 0, deployed.stdout + deployed.stderr
    here = workspace.run("predict", workspace.data / "test", "--json").json["predictions"]
    trained.run("deploy")
    there = trained.run("predict", trained.data / "test", "--json").json["predictions"]
    assert here.keys() == there.keys()
    same = [here[name][0]["label"] == there[name][0]["label"] for name in here]
    assert sum(same) >= len(same) - 1  # the image's packages may round otherwise
    moved = workspace.run("transform", workspace.data / "test", "--json").json
    assert moved["without_answer"] == []
    files = [path for path in (workspace.path / ".kennel").rglob("*") if path.is_file()]
    assert {path.stat().st_uid for path in files} == {os.getuid()}

    assert workspace.run("delete", "--yes").code == 0
    assert containers(image) == before


@pytest.mark.container
@pytest.mark.timeout(1800)
def test_a_stopped_container_keeps_its_model_and_leaves_nothing(
    workspace: Workspace, image: str
) -> None:
    before = containers(image)
    started = workspace.run(
        *("train", "--data", workspace.data, "--set", *TINY[:3], "epochs=500", "--no-wait"),
        *("--on", "docker", "--image", image),
    )
    assert started.code == 0, started.stderr
    wait_until(lambda: "epoch 2/" in workspace.run("logs").stdout)
    workspace.run("delete", "--yes")
    assert "stopped after" in workspace.run("logs", "--follow").stdout
    assert containers(image) == before
    assert workspace.run("deploy").code == 0
