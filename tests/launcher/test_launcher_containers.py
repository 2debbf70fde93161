"""Containers when commands, connections and engines fail: with a docker command that pretends."""

import http.server
import json
import os
import shutil
import signal
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import serving_artifacts
from botocore.exceptions import ClientError
from launcher_workspace import Workspace, wait_until

from launcher.local import containers, docker_run, processes
from launcher.local.client import LocalSageMaker
from launcher.local.docker_run import DockerRun
from launcher.local.jobs import ENDPOINT, SERVER, TRANSFORM_JOB
from launcher.local.layout import Host
from launcher.local.training import supervisor_of

pytest_plugins = ("launcher_fixtures",)

ROLE = "arn:aws:iam::000000000000:role/here"
FAR = "tcp://far:2375"

DOCKER = '''#!{python} -IS
"""Each engine is a directory, and each container a file in it."""
import json, os, secrets, sys, time
from pathlib import Path

place = Path({place!r})
host = os.environ.get("DOCKER_HOST", "")
engine = place / "engines" / (host.replace("/", "_") or "here")
engine.mkdir(parents=True, exist_ok=True)
given = sys.argv[1:]
verb = given[0]
with (place / "calls").open("a") as calls:
    calls.write(json.dumps([host, *given]) + "\\n")


def fail(said, code=1):
    sys.stderr.write(said + "\\n")
    sys.exit(code)


def hold():
    while (place / f"hold-{{verb}}").exists():
        time.sleep(0.01)


def write(state):
    temporary = engine / f".{{name}}.{{os.getpid()}}"
    temporary.write_text(json.dumps(state))
    temporary.replace(engine / name)


def read():
    try:
        return json.loads((engine / name).read_text())
    except FileNotFoundError:
        fail(f"Error response from daemon: No such container: {{name}}")


if (place / "silent").exists():
    fail("Cannot connect to the Docker daemon")
if (place / f"fail-{{verb}}").exists():
    fail((place / f"fail-{{verb}}").read_text())
name = given[-1]
if verb == "version":
    print("27.0")
elif verb == "create":
    label = given[given.index("--label") + 1]
    name = secrets.token_hex(6)
    write({{"label": label, "running": False, "code": 0, "status": "created"}})
    hold()
    print(name)
elif verb == "cp" and given[1] == "-":
    sys.stdin.buffer.read()
elif verb == "cp":
    fail("Could not find the file in the container")
elif verb == "start":
    write({{**read(), "running": True, "status": "running"}})
    if given[1] == "--attach":
        print("epoch 1", flush=True)
        while read()["running"]:
            if (place / "cut").exists():
                fail("error during connect", 125)
            time.sleep(0.01)
        sys.exit(read()["code"])
    hold()
elif verb == "logs":
    while (engine / name).exists() and read()["running"]:
        time.sleep(0.01)
elif verb == "port":
    print("127.0.0.1:" + (place / "port").read_text())
elif verb == "inspect":
    state = read()
    running = str(state["running"]).lower()
    print(running, *((state["code"], state["status"]) if "ExitCode" in given[2] else ()))
elif verb == "stop":
    state = read()
    hold()
    if state["running"]:
        write({{**state, "running": False, "code": 143, "status": "exited"}})
elif verb == "rm":
    read()
    (engine / name).unlink(missing_ok=True)
elif verb == "ps":
    for path in engine.glob("[!.]*"):
        if "label=" + json.loads(path.read_text())["label"] == name:
            print(path.name)
'''


@dataclass(frozen=True)
class Pretended:
    """The engines that the command pretends, from outside."""

    place: Path

    def containers(self, host: str = "here") -> dict[str, dict[str, Any]]:
        engine = self.place / "engines" / host.replace("/", "_")
        return {path.name: json.loads(path.read_text()) for path in engine.glob("[!.]*")}

    def end(self, name: str, code: int) -> None:
        """A container ends by itself."""
        path = self.place / "engines/here" / name
        state = {**json.loads(path.read_text()), "running": False, "status": "exited"}
        path.with_name(f".{name}").write_text(json.dumps({**state, "code": code}))
        path.with_name(f".{name}").replace(path)

    def calls(self, verb: str) -> list[list[str]]:
        lines = (self.place / "calls").read_text().splitlines()
        return [call for call in map(json.loads, lines) if call[1] == verb]

    def let(self, what: str, said: str = "") -> None:
        """Let something happen: `silent`, `cut`, `fail-VERB`, `hold-VERB`."""
        (self.place / what).write_text(said)

    def no_more(self, what: str) -> None:
        (self.place / what).unlink()


@pytest.fixture
def pretended(workspace: Workspace) -> Pretended:
    place = workspace.path / "pretended"
    (place / "engines/here").mkdir(parents=True)
    command = place / "docker"
    command.write_text(DOCKER.format(python=sys.executable, place=str(place)))
    command.chmod(0o755)
    # The workspace puts the environment back when it has deleted everything.
    os.environ["DOCKER"] = str(command)
    os.environ.pop("DOCKER_HOST", None)
    return Pretended(place)


@dataclass
class Server:
    """What answers for every server that is started."""

    ready: bool = True


@pytest.fixture
def server(pretended: Pretended) -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if state.ready else 503)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever).start()
        (pretended.place / "port").write_text(str(listening.server_port))
        yield state
        listening.shutdown()


@pytest.fixture
def archive(workspace: Workspace) -> Path:
    """A model.tar.gz that nobody looks into."""
    path = workspace.path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.addfile(tarfile.TarInfo("model.json"))
    return path


@pytest.fixture
def client(workspace: Workspace, pretended: Pretended, archive: Path) -> LocalSageMaker:
    """A client of this engine, which has the models and configurations `one` to `three`."""
    found = LocalSageMaker(workspace.client.folder, "docker")
    for name in ("one", "two", "three"):
        container = {"Image": "kennel", "ModelDataUrl": archive.as_uri()}
        found.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InitialInstanceCount": 1}
        found.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[{**variant, "InstanceType": "ml.m5.large"}],
        )
    return found


def status(client: LocalSageMaker) -> tuple[str, str]:
    found = client.describe_endpoint(EndpointName="pet")
    return found["EndpointStatus"], found.get("FailureReason", "")


def interrupt(*_: Any) -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def test_an_endpoint_moves_from_docker_to_processes_and_back(
    workspace: Workspace, pretended: Pretended, server: Server, tmp_path: Path
) -> None:
    serving_artifacts.write(tmp_path / "made")
    archive = tmp_path / "made.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as file:
        for path in (tmp_path / "made").iterdir():
            file.add(path, arcname=path.name)
    served = []
    for on in ("docker", "process", "docker"):
        answer = workspace.run("deploy", "--model", archive, "--on", on)
        assert answer.code == 0, answer.stderr
        found = workspace.client.folder.find(ENDPOINT, "kennel", "")["server"]
        served.append(processes.Identity.read(found))
        assert len(pretended.containers()) == (on == "docker")
        assert workspace.run("status", "--on", "process").code == 0
    assert workspace.run("delete", "--yes", "--on", "process").code == 0
    assert not any(identity.runs() for identity in served if identity)
    assert pretended.containers() == {}


def test_an_interrupted_start_leaves_no_container_and_a_failed_endpoint(
    client: LocalSageMaker, pretended: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "copy_in", interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.create_endpoint(EndpointName="pet", EndpointConfigName="one")
    assert pretended.containers() == {}
    assert status(client) == ("Failed", "The start of its server was interrupted.")
    client.delete_endpoint(EndpointName="pet")
    assert client.list_endpoints() == {"Endpoints": []}


def test_what_docker_refuses_fails_the_endpoint_with_the_reason(
    client: LocalSageMaker, pretended: Pretended
) -> None:
    pretended.let("fail-start", "driver failed programming external connectivity")
    client.create_endpoint(EndpointName="pet", EndpointConfigName="one")
    said = "docker start failed: driver failed programming external connectivity."
    assert status(client) == ("Failed", said)
    assert pretended.containers() == {}
    pretended.no_more("fail-start")


def test_a_refused_update_leaves_the_old_server(
    client: LocalSageMaker, pretended: Pretended, server: Server
) -> None:
    client.create_endpoint(EndpointName="pet", EndpointConfigName="one")
    assert status(client) == ("InService", "")
    (before,) = pretended.containers()
    pretended.let("fail-start", "no")
    client.update_endpoint(EndpointName="pet", EndpointConfigName="two")
    assert status(client) == ("InService", "docker start failed: no.")
    assert list(pretended.containers()) == [before]
    pretended.no_more("fail-start")
    # The same configuration once more is another server.
    client.update_endpoint(EndpointName="pet", EndpointConfigName="one")
    assert status(client) == ("InService", "")
    (after,) = pretended.containers()
    assert after != before
    client.delete_endpoint(EndpointName="pet")
    assert pretended.containers() == {}


def test_when_its_command_is_killed_a_start_leaves_a_failed_endpoint_and_no_container(
    workspace: Workspace, pretended: Pretended, archive: Path
) -> None:
    pretended.let("hold-start")
    command = workspace.start("deploy", "--model", archive, "--on", "docker")
    wait_until(lambda: bool(pretended.containers()))
    assert "Creating" in workspace.run("status").stdout
    command.kill()
    command.communicate(timeout=60)
    found = workspace.client.describe_endpoint(EndpointName="kennel")
    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"] == "The command that was starting its server was killed."
    assert pretended.containers() == {}
    pretended.no_more("hold-start")


def test_a_container_that_cannot_be_removed_keeps_its_endpoint(
    workspace: Workspace, pretended: Pretended, server: Server, archive: Path
) -> None:
    assert workspace.run("deploy", "--model", archive, "--on", "docker").code == 0
    pretended.let("silent")
    answer = workspace.run("delete", "--yes")
    assert answer.code == 1
    assert "Cannot connect to the Docker daemon" in answer.stderr
    pretended.no_more("silent")
    assert len(pretended.containers()) == 1
    assert "endpoint kennel" in workspace.run("delete", "--yes").stdout
    assert pretended.containers() == {}
    assert workspace.client.list_endpoints() == {"Endpoints": []}


def test_a_container_that_somebody_has_removed_does_not_keep_its_endpoint(
    client: LocalSageMaker, pretended: Pretended, server: Server
) -> None:
    client.create_endpoint(EndpointName="pet", EndpointConfigName="one")
    assert status(client) == ("InService", "")
    shutil.rmtree(pretended.place / "engines/here")
    assert status(client)[0] == "Failed"
    client.delete_endpoint(EndpointName="pet")
    assert client.list_endpoints() == {"Endpoints": []}


def test_an_endpoint_is_stopped_on_the_engine_that_it_was_started_on(
    workspace: Workspace, pretended: Pretended, server: Server, archive: Path
) -> None:
    os.environ["DOCKER_HOST"] = FAR
    assert workspace.run("deploy", "--model", archive, "--on", "docker").code == 0
    assert len(pretended.containers(FAR)) == 1
    del os.environ["DOCKER_HOST"]
    assert "InService" in workspace.run("status").stdout
    # The next server is this machine's, and the old one is stopped where it runs.
    assert workspace.run("deploy", "--model", archive).code == 0
    assert (len(pretended.containers(FAR)), len(pretended.containers())) == (0, 1)
    os.environ["DOCKER_HOST"] = FAR
    assert workspace.run("delete", "--yes").code == 0
    assert pretended.containers() == {}


def test_an_old_server_whose_engine_does_not_answer_is_stopped_later(
    client: LocalSageMaker, pretended: Pretended, server: Server
) -> None:
    client.create_endpoint(EndpointName="pet", EndpointConfigName="one")
    assert status(client) == ("InService", "")
    client.update_endpoint(EndpointName="pet", EndpointConfigName="two")
    pretended.let("fail-rm", "Cannot connect to the Docker daemon")
    assert status(client) == ("InService", "")
    assert len(pretended.containers()) == 2
    pretended.no_more("fail-rm")
    assert status(client) == ("InService", "")
    assert len(pretended.containers()) == 1
    client.delete_endpoint(EndpointName="pet")


def test_of_two_updates_at_once_one_is_refused_and_no_server_is_lost(
    client: LocalSageMaker, pretended: Pretended, server: Server
) -> None:
    client.create_endpoint(EndpointName="pet", EndpointConfigName="one")
    assert status(client) == ("InService", "")
    refused: list[str] = []

    def update(config: str) -> None:
        try:
            client.update_endpoint(EndpointName="pet", EndpointConfigName=config)
        except ClientError as error:
            refused.append(str(error))

    pretended.let("hold-create")
    threads = [threading.Thread(target=update, args=(name,)) for name in ("two", "three")]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(pretended.containers()) == 2)
    pretended.no_more("hold-create")
    for thread in threads:
        thread.join()
    (said,) = refused
    assert "'pet' is not in service and cannot be updated" in said
    assert status(client) == ("InService", "")
    assert len(pretended.containers()) == 1
    client.delete_endpoint(EndpointName="pet")
    assert pretended.containers() == {}


def test_an_endpoint_that_is_deleted_while_it_starts_leaves_nothing(
    client: LocalSageMaker, pretended: Pretended, server: Server
) -> None:
    pretended.let("hold-create")
    given = {"EndpointName": "pet", "EndpointConfigName": "one"}
    start = threading.Thread(target=client.create_endpoint, kwargs=given)
    start.start()
    wait_until(lambda: bool(pretended.containers()))
    delete = threading.Thread(target=client.delete_endpoint, kwargs={"EndpointName": "pet"})
    delete.start()
    pretended.no_more("hold-create")
    start.join()
    delete.join()
    assert pretended.containers() == {}
    assert not client.folder.directory(ENDPOINT, "pet").exists()
    assert client.list_endpoints() == {"Endpoints": []}


@pytest.fixture
def followed(pretended: Pretended, tmp_path: Path) -> Iterator[DockerRun]:
    """A training in one container."""
    base = tmp_path / "job/opt-ml"
    base.mkdir(parents=True)
    run = DockerRun("kennel", base, [Host("algo-1", base)], {}, base.parent / "log.txt")
    yield run
    docker_run.remove(base)
    for container in run.followed:
        container.client.wait()


def cut(run: DockerRun, pretended: Pretended) -> float:
    """The client brings a line, and then loses its connection; when it brought the line."""
    (container,) = run.followed
    wait_until(lambda: "epoch 1" in container.log.read_text())
    assert run.poll() is None
    heard = container.log.stat().st_mtime
    pretended.let("cut")
    container.client.wait()
    return heard


def test_a_training_whose_connection_is_lost_goes_on_and_is_followed_again(
    followed: DockerRun, pretended: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_run, "LOOK_SECONDS", 0)
    heard = cut(followed, pretended)
    assert followed.poll() is None
    wait_until(lambda: bool(pretended.calls("logs")))
    assert followed.poll() is None
    (call,) = pretended.calls("logs")
    (name,) = followed.identifiers
    assert call[2:4] + call[5:] == ["--follow", "--since", name]
    # From the last line of the container on, not from where its client complained.
    assert float(call[4]) == pytest.approx(heard, rel=0, abs=1e-5)
    assert pretended.containers()[name]["running"]
    pretended.end(name, 0)
    wait_until(lambda: followed.poll() is not None)
    assert followed.poll() == 0
    assert not pretended.calls("stop")


def test_an_engine_that_does_not_answer_is_asked_now_and_then(
    followed: DockerRun, pretended: Pretended
) -> None:
    cut(followed, pretended)
    pretended.let("silent")
    assert {followed.poll() for _ in range(50)} == {None}
    assert len(pretended.calls("inspect")) == 1
    pretended.no_more("silent")
    followed.followed[0].next_look = 0
    (name,) = followed.identifiers
    pretended.end(name, 3)
    assert followed.poll() == 3


def test_a_container_that_somebody_has_removed_has_failed(
    followed: DockerRun, pretended: Pretended
) -> None:
    cut(followed, pretended)
    shutil.rmtree(pretended.place / "engines/here")
    assert followed.poll() == 125


def test_a_training_that_docker_cannot_start_has_failed(
    pretended: Pretended, tmp_path: Path
) -> None:
    pretended.let("fail-start", "could not select device driver")
    log = tmp_path / "log.txt"
    run = DockerRun("kennel", tmp_path, [Host("algo-1", tmp_path)], {}, log)
    wait_until(lambda: run.poll() is not None)
    assert run.poll() == 1
    assert "could not select device driver" in log.read_text()
    run.collect()
    assert pretended.containers() == {}


def test_an_interrupted_start_of_a_training_leaves_no_container(
    pretended: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "copy_in", interrupt)
    with pytest.raises(KeyboardInterrupt):
        DockerRun("kennel", tmp_path, [Host("algo-1", tmp_path)], {}, tmp_path / "log.txt")
    assert pretended.containers() == {}


def transform(client: LocalSageMaker, workspace: Workspace) -> Path:
    """Start a batch transform; the directory of its job."""
    client.create_transform_job(
        TransformJobName="all",
        ModelName="one",
        TransformInput={
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": workspace.data.as_uri()}
            }
        },
        TransformOutput={"S3OutputPath": (workspace.path / "answers").as_uri()},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    return client.folder.directory(TRANSFORM_JOB, "all")


def state(client: LocalSageMaker) -> str:
    return str(client.describe_transform_job(TransformJobName="all")["TransformJobStatus"])


def test_a_transform_that_is_asked_to_stop_twice_still_stops_its_server(
    workspace: Workspace, client: LocalSageMaker, pretended: Pretended, server: Server
) -> None:
    server.ready = False
    pretended.let("hold-stop")
    job = transform(client, workspace)
    wait_until(lambda: bool(pretended.calls("logs")))
    client.stop_transform_job(TransformJobName="all")
    wait_until(lambda: bool(pretended.calls("stop")))
    client.stop_transform_job(TransformJobName="all")
    assert state(client) == "InProgress"
    pretended.no_more("hold-stop")
    wait_until(lambda: state(client) == "Stopped")
    assert pretended.containers() == {}
    assert not (job / SERVER).exists()


def test_when_a_transform_is_killed_while_its_server_is_made_no_container_is_left(
    workspace: Workspace, client: LocalSageMaker, pretended: Pretended
) -> None:
    pretended.let("hold-create")
    job = transform(client, workspace)
    wait_until(lambda: bool(pretended.containers()))
    supervisor = supervisor_of(job)
    assert supervisor
    supervisor.signal(signal.SIGKILL)
    wait_until(lambda: state(client) == "Failed")
    assert pretended.containers() == {}
    pretended.no_more("hold-create")


def test_a_transform_whose_container_cannot_be_removed_says_so_and_removes_it_later(
    workspace: Workspace, client: LocalSageMaker, pretended: Pretended, server: Server
) -> None:
    server.ready = False
    pretended.let("fail-rm", "Cannot connect to the Docker daemon")
    job = transform(client, workspace)
    wait_until(lambda: bool(pretended.calls("logs")))
    client.stop_transform_job(TransformJobName="all")
    wait_until(lambda: state(client) == "Stopped")
    assert "docker rm failed: Cannot connect" in (job / "log.txt").read_text()
    assert len(pretended.containers()) == 1
    pretended.no_more("fail-rm")
    wait_until(lambda: state(client) == "Stopped" and not pretended.containers())
