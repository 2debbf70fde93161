"""build_and_push.sh: its checks with stand-ins for docker and aws, its push with the real ones."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from docker_engine import docker, require_engine, skip_or_fail, wait_until
from moto.server import ThreadedMotoServer

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "build_and_push.sh"
SHELL_TOOLS = ("bash", "cat", "dirname", "git", "grep", "sed", "tail")
ACCOUNT = "123456789012"
REGION = "eu-west-1"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

WORKING_DOCKER = """
case "$*" in
    "buildx version") ;;
    version*) echo amd64 ;;
    "image inspect"*) echo null ;;
    login*) cat >/dev/null ;;
esac
"""
WORKING_AWS = f"""
case "$*" in
    "sts get-caller-identity"*) echo {ACCOUNT} ;;
    "ecr get-login-password"*) echo the-password ;;
    "ecr describe-images"*) echo {DOCKER_MANIFEST} ;;
esac
"""


class Machine:
    """A PATH with a shell and nothing else, but for the stand-ins that a test puts there."""

    def __init__(self, path: Path) -> None:
        self.bin = path / "bin"
        self.bin.mkdir()
        self.calls = path / "calls"
        for tool in SHELL_TOOLS:
            real = shutil.which(tool)
            assert real is not None
            (self.bin / tool).symlink_to(real)

    def install(self, name: str, body: str) -> None:
        """A command that writes down how it was called, then does this."""
        program = self.bin / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.calls}"\n{body}\n')
        program.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SCRIPT, *arguments],
            env={"PATH": str(self.bin), "HOME": str(self.bin), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def equipped(machine: Machine) -> Machine:
    machine.install("docker", WORKING_DOCKER)
    machine.install("aws", WORKING_AWS)
    return machine


def assert_refused(done: "subprocess.CompletedProcess[str]", sentence: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("build_and_push.sh: ")
    assert sentence in done.stderr.splitlines()[-1]


def test_prints_only_the_uri_on_stdout(equipped: Machine) -> None:
    done = equipped.run("--region", REGION, "--tag", "1.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/kennel:1.0\n"


def test_builds_for_sagemakers_machines_without_attestations(equipped: Machine) -> None:
    equipped.run("--local")
    (build,) = (call for call in equipped.called() if call.startswith("docker buildx build"))
    assert "--platform linux/amd64" in build
    assert "--provenance=false --sbom=false --output type=docker" in build


def test_the_image_for_a_cpu_has_a_name_and_a_base_of_its_own(equipped: Machine) -> None:
    done = equipped.run("--local", "--target", "cpu")
    assert (done.returncode, done.stdout) == (0, "kennel-cpu:latest\n")
    (build,) = (call for call in equipped.called() if call.startswith("docker buildx build"))
    assert "--target cpu" in build
    assert "--build-arg BASE_IMAGE=ubuntu:24.04" in build
    assert "BASE_IMAGE=mine:1" in equipped.run("--local", TARGET="cpu", BASE_IMAGE="mine:1").stderr


def test_everything_is_built_anew_where_that_is_asked_for(equipped: Machine) -> None:
    assert " --no-cache " in equipped.run("--local", "--no-cache").stderr
    assert "--no-cache" not in equipped.run("--local").stderr


def test_local_build_asks_nothing_of_aws(machine: Machine) -> None:
    machine.install("docker", WORKING_DOCKER)
    done = machine.run("--local", "--tag", "mine")
    assert (done.returncode, done.stdout) == (0, "kennel:mine\n")
    assert not any("push" in call for call in machine.called())


def test_docker_without_buildx_builds_with_its_own_buildkit(machine: Machine) -> None:
    machine.install("docker", WORKING_DOCKER.replace('"buildx version") ;;', "buildx*) exit 1 ;;"))
    assert machine.run("--local").returncode == 0
    (build,) = (call for call in machine.called() if "--platform" in call)
    assert build.startswith("docker build --platform linux/amd64")


def test_dry_run_prints_every_command_and_runs_none(machine: Machine) -> None:
    done = machine.run("--dry-run", "--region", REGION, "--account", ACCOUNT)
    assert done.returncode == 0, done.stderr
    for command in ("build", "create-repository", "get-login-password", "tag", "push"):
        assert f" {command} " in done.stderr
    assert done.stdout == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/kennel:latest\n"


def test_dry_run_changes_nothing_where_everything_works(equipped: Machine) -> None:
    assert equipped.run("--dry-run", "--region", REGION).returncode == 0
    changing = (" build ", " push ", " tag ", " login ", "create-", "put-")
    assert not [call for call in equipped.called() if any(word in call for word in changing)]


def test_flags_win_over_the_environment_and_the_environment_over_sts(equipped: Machine) -> None:
    environment = {"AWS_REGION": "us-east-1", "AWS_ACCOUNT_ID": "111111111111"}
    assert equipped.run(**environment).stdout.startswith("111111111111.dkr.ecr.us-east-1.")
    flags = ("--region", REGION, "--account", "222222222222")
    assert equipped.run(*flags, **environment).stdout.startswith(f"222222222222.dkr.ecr.{REGION}.")


def test_images_without_a_tag_expire_only_where_that_is_asked_for(equipped: Machine) -> None:
    missing = '"ecr describe-repositories"*) echo RepositoryNotFoundException >&2; exit 254 ;;'
    equipped.install(
        "aws", WORKING_AWS.replace('"ecr describe-images"', f'{missing}\n"ecr describe-images"')
    )
    assert equipped.run("--region", REGION).returncode == 0
    assert any("create-repository" in call for call in equipped.called())
    assert not any("lifecycle" in call for call in equipped.called())
    equipped.install("aws", WORKING_AWS)
    assert equipped.run("--region", REGION, "--expire-untagged", "30").returncode == 0
    (call,) = (call for call in equipped.called() if "put-lifecycle-policy" in call)
    (rule,) = json.loads(call.partition("--lifecycle-policy-text ")[2])["rules"]
    assert rule == {
        "rulePriority": 1,
        "selection": {
            "tagStatus": "untagged",
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": 30,
        },
        "action": {"type": "expire"},
    }


def test_chinese_regions_have_their_own_domain(equipped: Machine) -> None:
    uri = equipped.run("--region", "cn-north-1").stdout
    assert uri == f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn/kennel:latest\n"


def test_the_clones_token_does_not_become_a_label(equipped: Machine, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy(SCRIPT, clone)
    (clone / "pyproject.toml").touch()
    git = ["git", "-C", str(clone)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    address = "https://user:secret@example.com/kennel.git"
    subprocess.run([*git, "remote", "add", "origin", address], check=True)
    done = subprocess.run(
        [clone / SCRIPT.name, "--local"],
        env={"PATH": str(equipped.bin), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "SOURCE=https://example.com/kennel.git" in done.stderr
    assert "secret" not in done.stderr


def test_help_names_every_option(machine: Machine) -> None:
    done = machine.run("--help")
    assert done.returncode == 0
    for option in ("--local", "--name", "--tag", "--region", "--account", "--dry-run"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tga", "1"], "--tga is no option"),
        (["--tag"], "--tag needs a value"),
        (["--name", "Kennel"], "--name must be lower-case"),
        (["--tag", "a/b"], "--tag must be letters"),
        (["--account", "12"], "--account must be 12 digits"),
        (["--expire-untagged", "0"], "--expire-untagged must be a number of days"),
        (["--target", "gpu"], "--target can only be cpu"),
        (["--target", "cpu", "--pretrained", "resnet18"], "--pretrained is for training"),
    ],
)
def test_a_mistyped_argument_is_named(
    equipped: Machine, arguments: list[str], sentence: str
) -> None:
    assert_refused(equipped.run(*arguments), sentence)
    assert equipped.called() == []


def test_missing_docker_is_said(machine: Machine) -> None:
    assert_refused(machine.run("--local"), "docker is missing")


def test_missing_client_named_by_the_environment_is_said(machine: Machine) -> None:
    assert_refused(machine.run("--local", DOCKER="podman-5"), "$DOCKER names podman-5")


def test_docker_that_cannot_build_is_said(machine: Machine) -> None:
    machine.install("docker", "exit 1")
    assert_refused(machine.run("--local"), "cannot build with BuildKit")


def test_silent_engine_is_said(machine: Machine) -> None:
    machine.install("docker", '[[ "$*" == "buildx version" ]]')
    assert_refused(machine.run("--local"), "no Docker engine answers")


def test_engine_that_cannot_run_amd64_is_said(machine: Machine) -> None:
    machine.install("docker", WORKING_DOCKER.replace("echo amd64", "echo arm64"))
    assert_refused(machine.run("--local"), "runs on arm64 and cannot run linux/amd64")


def test_engine_that_emulates_amd64_builds(machine: Machine) -> None:
    emulating = WORKING_DOCKER.replace("echo amd64", "echo arm64").replace(
        '"image inspect"',
        '"buildx inspect") echo "Platforms: linux/arm64, linux/amd64" ;;\n    "image inspect"',
    )
    machine.install("docker", emulating)
    assert machine.run("--local").returncode == 0


def test_an_engine_that_names_many_platforms_is_read_to_its_end(machine: Machine) -> None:
    """More than a pipe holds follows linux/amd64, and docker writes to nobody who has gone."""
    names = "echo linux/amd64; for _ in {1..20000}; do echo linux/arm64 || exit 141; done"
    emulating = WORKING_DOCKER.replace("echo amd64", "echo arm64").replace(
        '"image inspect"', f'"buildx inspect") {names} ;;\n    "image inspect"'
    )
    machine.install("docker", emulating)
    done = machine.run("--local")
    assert done.returncode == 0, done.stderr


def test_missing_aws_is_said_before_anything_is_built(machine: Machine) -> None:
    machine.install("docker", WORKING_DOCKER)
    assert_refused(machine.run("--region", REGION), "the aws command is missing")
    assert not any("--platform" in call for call in machine.called())


def test_missing_region_is_said(machine: Machine) -> None:
    machine.install("docker", WORKING_DOCKER)
    machine.install("aws", "exit 1")
    assert_refused(machine.run(), "no AWS region")


def test_missing_credentials_are_said_in_aws_own_words(machine: Machine) -> None:
    machine.install("docker", WORKING_DOCKER)
    machine.install("aws", "echo; echo 'Unable to locate credentials.' >&2; exit 253")
    assert_refused(machine.run("--region", REGION), "Unable to locate credentials.")


def test_image_in_oci_format_is_refused_before_the_push(equipped: Machine) -> None:
    answer = f'echo \'{{"mediaType":"{OCI_INDEX}"}}\''
    equipped.install("docker", WORKING_DOCKER.replace("echo null", answer))
    assert_refused(equipped.run("--region", REGION), "OCI's format, which SageMaker refuses")
    assert not any("push" in call for call in equipped.called())


def test_image_in_oci_format_is_refused_after_the_push(equipped: Machine) -> None:
    equipped.install("aws", WORKING_AWS.replace(DOCKER_MANIFEST, OCI_INDEX))
    assert_refused(equipped.run("--region", REGION), "ECR holds the image in OCI's format")


def test_password_is_in_no_output_and_on_no_command_line(equipped: Machine) -> None:
    done = equipped.run("--region", REGION)
    assert done.returncode == 0, done.stderr
    assert "the-password" not in done.stdout + done.stderr + "".join(equipped.called())


@dataclass(frozen=True)
class Registry:
    """A Docker registry on this machine that lets in who knows ECR's password."""

    host: str
    password: str

    def get(self, path: str) -> "tuple[str, bytes]":
        """The media type and content of what the registry holds there."""
        token = base64.b64encode(f"AWS:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Accept": DOCKER_MANIFEST}
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.headers["Content-Type"], answer.read()

    def answers(self) -> bool:
        try:
            self.get("")
        except urllib.error.URLError:
            return False
        return True


@pytest.fixture
def aws() -> Iterator[dict[str, str]]:
    """The environment in which the real aws command talks to a stand-in for AWS on this machine."""
    if shutil.which("aws", path=aws_path()) is None:
        skip_or_fail("there is no aws command")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,  # version 1 of the aws command knows only this one
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "PATH": aws_path(),
    }
    server.stop()


def aws_path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    program = shutil.which("docker-registry")
    if program is None:
        skip_or_fail("there is no docker-registry command")
        raise AssertionError
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    password = f"{ACCOUNT}-auth-token"  # what moto answers for ECR's login
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"AWS:{hashed}\n")
    configuration = {
        "version": 0.1,
        "http": {"addr": host},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "auth": {"htpasswd": {"realm": "registry", "path": str(tmp_path / "htpasswd")}},
    }
    (tmp_path / "registry.json").write_text(json.dumps(configuration))  # JSON is YAML
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", tmp_path / "registry.json"], stdout=log, stderr=log
        )
    try:
        running = Registry(host, password)
        wait_until(running.answers, seconds=30, what="the registry")
        yield running
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The real script beside a Dockerfile whose image weighs nothing."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    shutil.copy(SCRIPT, folder)
    (folder / "pyproject.toml").write_text('version = "1.2.3"\n')
    (folder / "Dockerfile").write_text(
        "FROM scratch\nCOPY pyproject.toml /\nARG VERSION\nLABEL version=$VERSION\n"
    )
    return folder


@pytest.mark.container
def test_pushes_to_a_new_repository_and_again_to_the_same(
    aws: dict[str, str], registry: Registry, tiny: Path, tmp_path: Path
) -> None:
    require_engine()
    tag = f"test-{uuid.uuid4().hex}"
    uri = f"{registry.host}/kennel:{tag}"
    environment = {**os.environ, **aws, "DOCKER_CONFIG": str(tmp_path)}
    arguments = ["--registry", registry.host, "--tag", tag, "--expire-untagged", "30"]
    try:
        for _ in range(2):
            done = subprocess.run(
                [tiny / SCRIPT.name, *arguments],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout == f"{uri}\n"
            assert registry.password not in done.stderr
    finally:
        docker("image", "rm", uri, f"kennel:{tag}")

    # "Unsupported manifest media type application/vnd.oci.image.index.v1+json"
    media_type, manifest = registry.get(f"kennel/manifests/{tag}")
    assert media_type == DOCKER_MANIFEST
    _, content = registry.get(f"kennel/blobs/{json.loads(manifest)['config']['digest']}")
    assert json.loads(content)["config"]["Labels"] == {"version": "1.2.3"}

    def ecr(*question: str) -> dict[str, Any]:
        command = ["aws", "ecr", *question, "--output", "json"]
        answer: dict[str, Any] = json.loads(subprocess.check_output(command, env=environment))
        return answer

    (repository,) = ecr("describe-repositories")["repositories"]
    assert repository["repositoryName"] == "kennel"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    policy = ecr("get-lifecycle-policy", "--repository-name", "kennel")["lifecyclePolicyText"]
    (rule,) = json.loads(policy)["rules"]
    assert rule["selection"]["tagStatus"] == "untagged"
    assert rule["selection"]["countNumber"] == 30
