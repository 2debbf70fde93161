"""The image, built and run by a real Docker engine the way people and SageMaker run it."""

import json
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import CLIENT, Container, container, docker, wait_until
from kennel_image import REPOSITORY, START_SECONDS, build, ping, wait_until_healthy

from examples.digits import write_digits

pytestmark = [pytest.mark.container, pytest.mark.timeout(1800)]

DIGITS = (
    *("--arch", "resnet18", "--weights", "none", "--trainable", "all"),
    *("--image-size", "64", "--crop-scale", "0.8", "--flip", "false", "--lr", "0.002"),
)
BUILD_CONTEXT = (
    *("Dockerfile", ".dockerignore", "build_and_push.sh", "pyproject.toml"),
    *("requirements", "container", "train", "serve"),
)
LARGEST = 4.5e9
"""Bytes; a serverless endpoint takes up to 10 GB."""
TRAINING_GRACE = 120
SERVING_GRACE = 30
TRAINING_SECONDS = 900


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return folder


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few-digits")
    write_digits(folder, limit=300)
    return folder


@pytest.fixture(scope="session")
def model(image: str, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `docker run … train` learned from the digits, without a network."""
    out = tmp_path_factory.mktemp("model")
    out.chmod(0o755)  # as SageMaker's is, for whoever serves it
    options = ("--network", "none", *volumes(digits, out))
    with container(image, "train", *DIGITS, "--epochs", "4", options=options) as training:
        code = training.wait(seconds=TRAINING_SECONDS)
        assert code == 0, training.logs()
    return out


@pytest.fixture(scope="module")
def server(image: str, model: Path) -> Iterator[Container]:
    with container(image, "serve", options=serving(model)) as running:
        wait_until_healthy(running)
        yield running


def volumes(data: Path, out: Path) -> tuple[str, ...]:
    return ("-v", f"{data}:/opt/ml/input/data/train:ro", "-v", f"{out}:/opt/ml/model")


def serving(model: Path) -> tuple[str, ...]:
    return ("-p", "127.0.0.1::8080", "-v", f"{model}:/opt/ml/model:ro")


def predict(running: Container, image: Path) -> int:
    """The digit that the served model sees, asked with the curl line of the README."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60"]
    command += ["--header", "Content-Type: image/jpeg", "--data-binary", f"@{image}"]
    answer = subprocess.run(
        [*command, f"http://{running.address()}/invocations"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    scores = json.loads(answer.stdout)
    assert len(scores) == 10
    return int(max(range(10), key=scores.__getitem__))


def inspect(image: str, template: str) -> object:
    return json.loads(docker("image", "inspect", "--format", f"{{{{json {template}}}}}", image))


def test_train_then_serve_predicts_held_out_digits(server: Container, digits: Path) -> None:
    held_out = [
        (digit, path)
        for digit in range(10)
        for path in sorted((digits / f"test/{digit}").iterdir())[:3]
    ]
    right = sum(predict(server, path) == digit for digit, path in held_out)
    assert right >= 0.9 * len(held_out)


def test_training_does_without_shared_memory(image: str, few_digits: Path, tmp_path: Path) -> None:
    # SageMaker's 64 MB are too few for many loaders; Kennel's threads take nothing of them.
    options = ("--shm-size", "64k", *volumes(few_digits, tmp_path))
    for trainable in ("all", "head"):
        flags = (*DIGITS, "--trainable", trainable, "--epochs", "1")
        with container(image, "train", *flags, options=options) as training:
            assert training.wait(seconds=TRAINING_SECONDS) == 0, training.logs()


def test_ping_never_answers_anything_but_503_before_200(image: str, model: Path) -> None:
    with container(image, "serve", options=serving(model)) as running:
        assert wait_until_healthy(running) <= {None, 503}


def test_default_command_trains_with_hyperparameters_that_are_strings(
    image: str, few_digits: Path, tmp_path: Path
) -> None:
    # "SageMaker passes hyperparameters as strings"; its SDK's local mode passes no command.
    config, out = tmp_path / "config", tmp_path / "model"
    config.mkdir()
    given = {"arch": "resnet18", "weights": "none", "image_size": "64", "epochs": "1"}
    tuner = {"_tuning_objective_metric": "validation:accuracy", "sagemaker_region": '"eu-west-1"'}
    (config / "hyperparameters.json").write_text(json.dumps(given | tuner))
    options = (*volumes(few_digits, out), "-v", f"{config}:/opt/ml/input/config:ro")
    with container(image, options=options) as training:
        assert training.wait(seconds=TRAINING_SECONDS) == 0, training.logs()
    facts = json.loads((out / "model.json").read_text())
    assert facts["hyperparameters"]["image-size"] == "64"


def test_docker_stop_ends_training_with_a_saved_model(
    image: str, few_digits: Path, tmp_path: Path
) -> None:
    # "SIGTERM, 120 s, then SIGKILL; artifacts written in the window are uploaded"
    options = volumes(few_digits, tmp_path)
    with container(image, "train", *DIGITS, "--epochs", "1000", options=options) as training:
        wait_until(
            lambda: "epoch 1/1000" in training.logs() or not training.running(),
            seconds=TRAINING_SECONDS,
            what="the first epoch",
        )
        assert training.running(), training.logs()
        started = time.monotonic()
        code = training.stop(grace=TRAINING_GRACE)
        seconds = time.monotonic() - started
        assert code == 0, training.logs()
    assert seconds < 100
    assert (tmp_path / "model.safetensors").is_file()
    assert (tmp_path / "model.json").is_file()


def test_docker_stop_ends_serving_and_answers_what_it_had_accepted(
    image: str, model: Path, digits: Path
) -> None:
    body = next((digits / "test/3").iterdir()).read_bytes()
    with container(image, "serve", options=serving(model)) as running:
        wait_until_healthy(running)
        host, port = running.address().split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: kennel\r\nContent-Type: image/jpeg\r\n"
                b"Expect: 100-continue\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body)
            )
            # The server's own word that it has the request and waits for the body.
            assert connection.recv(1024).startswith(b"HTTP/1.1 100")
            codes: list[int] = []
            stopping = threading.Thread(
                target=lambda: codes.append(running.stop(grace=SERVING_GRACE))
            )
            started = time.monotonic()
            stopping.start()
            wait_until(lambda: ping(running) != 200, seconds=10, what="the server to close")
            connection.sendall(body)
            with connection.makefile("rb") as answer:
                assert answer.readline().startswith(b"HTTP/1.1 200"), running.logs()
        stopping.join()
        seconds = time.monotonic() - started
        assert codes == [0], running.logs()
    assert seconds < 10


def test_users_mistake_exits_1_with_a_sentence_in_the_failure_file(
    image: str, few_digits: Path, tmp_path: Path
) -> None:
    # "The first 1024 characters of /opt/ml/output/failure become the job's FailureReason"
    model, output = tmp_path / "model", tmp_path / "output"
    options = (*volumes(few_digits, model), "-v", f"{output}:/opt/ml/output")
    with container(image, "train", "--lr", "0", options=options) as training:
        assert training.wait(seconds=120) == 1, training.logs()
    assert (output / "failure").read_text().startswith("lr must be greater than 0")


def test_serve_without_a_model_says_so_and_ends(image: str, tmp_path: Path) -> None:
    with container(image, "serve", options=serving(tmp_path)) as running:
        assert running.wait(seconds=START_SECONDS) != 0
        logs = running.logs()
    assert "/opt/ml/model" in logs
    assert "Traceback" not in logs


def test_serve_needs_no_root_no_network_and_no_writable_disk(image: str, model: Path) -> None:
    options = (
        *("--network", "none", "--read-only", "--user", "1000"),
        *("--tmpfs", "/tmp"),  # noqa: S108 - the container's
        *("-v", f"{model}:/opt/ml/model:ro"),
    )
    asks = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/ping').status)"

    def healthy() -> bool:
        assert running.running(), running.logs()
        answer = subprocess.run(
            [CLIENT, "exec", running.identifier, "python", "-c", asks],
            capture_output=True,
            text=True,
            check=False,
        )
        return answer.stdout.strip() == "200"

    with container(image, "serve", options=options) as running:
        wait_until(healthy, seconds=START_SECONDS, what="/ping to answer 200")


def test_labels_command_and_size(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = inspect(image, ".Config.Labels")
    assert isinstance(labels, dict)
    capabilities = "com.amazonaws.sagemaker.capabilities"
    assert labels[f"{capabilities}.multi-models"] == "true"
    assert labels[f"{capabilities}.accept-bind-to-port"] == "true"
    assert labels["org.opencontainers.image.title"] == "Kennel"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not inspect(image, ".Config.Entrypoint")
    assert inspect(image, ".Config.Cmd") == ["train"]
    size = inspect(image, ".Size")
    assert isinstance(size, int)
    with capsys.disabled():
        print(f"\nimage size: {size / 1e9:.2f} GB")
    assert size <= LARGEST


def test_both_programs_are_found_and_build_tools_are_not(image: str) -> None:
    asks = (
        "for name in train serve gcc cc make uv; do command -v $name; done;"
        "for path in /opt/uv /root/.cache /opt/ml; do test ! -e $path || echo $path; done"
    )
    with container(image, "sh", "-c", asks) as shell:
        shell.wait(seconds=60)
        assert shell.logs().split() == ["/opt/program/train", "/opt/program/serve"]


def test_any_user_may_read_the_program_and_its_packages(image: str) -> None:
    closed = "find /opt ! -type l '(' ! -perm -o=r -o -type d ! -perm -o=x ')'"
    with container(image, *shlex.split(closed)) as finding:
        assert finding.wait(seconds=120) == 0
        assert finding.logs() == ""


def test_windows_line_ends_and_lost_modes_do_not_matter(image: str, tmp_path: Path) -> None:
    for name in BUILD_CONTEXT:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, tmp_path / name)
        else:
            shutil.copy(REPOSITORY / name, tmp_path / name)
    for path in (tmp_path / "train", tmp_path / "serve", *tmp_path.glob("container/**/*.py")):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        path.chmod(0o600)
    name = build(tmp_path)
    try:
        with container(name, "train", "--help", options=("--user", "1000")) as helping:
            assert helping.wait(seconds=60) == 0, helping.logs()
    finally:
        docker("image", "rm", name)


def test_the_readmes_docker_commands_train_and_serve(
    image: str, few_digits: Path, tmp_path: Path
) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    (commands,) = re.findall(r"^```sh docker\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    name = f"kennel-readme-{uuid.uuid4().hex[:8]}"
    script = (
        commands.replace("kennel-serve", name)
        .replace("127.0.0.1:8080:8080", "127.0.0.1::8080")
        .replace(" kennel ", f" {image} ")
        .replace("docker ", f"{CLIENT} ")
    )
    shutil.copytree(few_digits / "train", tmp_path / "images")
    try:
        subprocess.run(
            ["bash", "-euxc", script], cwd=tmp_path, check=True, timeout=TRAINING_SECONDS
        )
        running = Container(docker("inspect", "--format", "{{.Id}}", name))
        wait_until_healthy(running)
        assert 0 <= predict(running, next(few_digits.glob("test/*/*.jpg"))) <= 9
    finally:
        docker("rm", "--force", name)
