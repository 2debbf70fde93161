"""What is particular to `--on docker`, most of it without an engine."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import docker
from launcher_workspace import TINY, Answer, Workspace, wait_until

from container.errors import UserError
from launcher.local import processes
from launcher.local.docker import DockerEngine, tunnel_arguments
from launcher.local.process import free_port

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


def two_hosts(workspace: Workspace, image: str, *options: str) -> tuple[Answer, Path]:
    """A training on two hosts, and the directory of its job."""
    flags = ("--instances", "2", "--on", "docker", "--image", image, "--json")
    answer = workspace.run("train", "--data", workspace.data, *flags, "--set", *TINY, *options)
    (job,) = (workspace.path / ".kennel/jobs/training-jobs").iterdir()
    return answer, job


@pytest.mark.container
@pytest.mark.timeout(900)
def test_several_hosts_train_together_and_leave_one_model(workspace: Workspace, image: str) -> None:
    before = left(image)
    answer, job = two_hosts(workspace, image)
    assert answer.code == 0, answer.stderr
    for host, place in (("algo-1", "opt-ml"), ("algo-2", "hosts/algo-2")):
        config = json.loads((job / place / "input/config/resourceconfig.json").read_text())
        assert (config["current_host"], config["hosts"]) == (host, ["algo-1", "algo-2"])
        assert config["instance_groups"][0]["hosts"] == config["hosts"]
    assert "2 processes on 2 hosts." in (job / "log.txt").read_text()
    assert workspace.run("report").code == 0
    assert Path(answer.json["artifact"].removeprefix("file://")).is_file()
    assert left(image) == before


@pytest.mark.container
@pytest.mark.timeout(900)
def test_a_host_that_dies_fails_the_job_and_ends_the_others(
    workspace: Workspace, image: str
) -> None:
    before = left(image)
    _, job = two_hosts(workspace, image, "epochs=500", "--no-wait")
    wait_until(lambda: "epoch 2/" in workspace.run("logs").stdout)
    _, second = json.loads((job / "run.json").read_text())["containers"]
    docker("kill", second)
    answer = workspace.run("logs", "--follow")
    assert answer.code == 1
    # What the other host says of it, or where that had no time to, what the code says.
    assert re.search("lost the connection to another process|most likely for memory", answer.stderr)
    assert left(image) == before


@pytest.mark.container
@pytest.mark.timeout(900)
def test_when_its_supervisor_is_killed_a_training_leaves_no_container(
    workspace: Workspace, image: str
) -> None:
    before = left(image)
    two_hosts(workspace, image, "epochs=500", "--no-wait")
    (job,) = (workspace.path / ".kennel/jobs/training-jobs").iterdir()
    # The network and the first container are there, and no record of them.
    wait_until(lambda: len(left(image) - before) > 1)
    supervisor = processes.Identity.read(json.loads((job / "supervisor.json").read_text()))
    assert supervisor
    supervisor.signal(signal.SIGKILL)
    wait_until(lambda: not supervisor.runs())
    assert (
        "the process that looked after this job is gone" in workspace.run("logs", "--follow").stderr
    )
    assert left(image) == before


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The engine of this machine as one that is reached by ssh, with a server of our own."""
    server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if server is None or os.geteuid() != 0:
        pytest.skip("there is no sshd, or not the rights to start one")
    place = tmp_path / "ssh"
    place.mkdir(mode=0o700)
    Path("/run/sshd").mkdir(exist_ok=True)  # where it insists on leaving its own rights
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)]
        subprocess.run(key, check=True)
    port = free_port()
    write_lines(
        place / "server.conf",
        *(f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {place}/host", "UsePAM no"),
        *(
            f"AuthorizedKeysFile {place}/user.pub",
            "StrictModes no",
            "PermitRootLogin prohibit-password",
        ),
        *("PasswordAuthentication no", "MaxStartups 100", f"PidFile {place}/pid"),
    )
    write_lines(
        place / "client.conf",
        *("Host far", "HostName 127.0.0.1", f"Port {port}", "User root"),
        *(f"IdentityFile {place}/user", f"UserKnownHostsFile {place}/known"),
        "StrictHostKeyChecking accept-new",
    )
    # A person has this in ~/.ssh/config.
    client = place / "bin/ssh"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {place}/client.conf "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "ssh://far")
    with subprocess.Popen([server, "-D", "-f", str(place / "server.conf")]) as process:
        try:
            wait_until(lambda: subprocess.run(["ssh", "far", "true"], check=False).returncode == 0)
            yield
        finally:
            process.terminate()


def write_lines(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.container
@pytest.mark.timeout(900)
def test_an_engine_elsewhere_trains_and_serves_and_is_asked_through_a_tunnel(
    workspace: Workspace, image: str, far: None
) -> None:
    before = left(image)
    given = ("--on", "docker", "--image", image)
    trained = workspace.run("train", "--data", workspace.data, "--set", *TINY, *given)
    assert trained.code == 0, trained.stderr
    deployed = workspace.run("deploy")
    assert deployed.code == 0, deployed.stderr
    (record,) = (workspace.path / ".kennel/jobs/endpoints").glob("*/record.json")
    tunnel = processes.Identity.read(json.loads(record.read_text())["server"]["tunnel"])
    assert tunnel
    assert tunnel.runs()
    answer = workspace.run("predict", workspace.data / "test", "--json")
    assert len(answer.json["predictions"]) == 15
    assert workspace.run("delete", "--yes").code == 0
    processes.reap(tunnel.pid)
    assert not tunnel.runs()
    assert left(image) == before
