"""Every hosting mode against the real container: real-time, batch transform, multi-model."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import serving_artifacts
import serving_requests as bodies
from docker_engine import container, wait_until
from kennel_image import ping, wait_until_healthy
from serving_artifacts import encoded, npy, photograph
from serving_client import invoke, request

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]

CLASSES = tuple(f"breed {number}" for number in range(133))
IMAGES = [encoded(photograph(seed, (500, 375))) for seed in range(4)]
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--user", "1000", "--cap-drop", "ALL"),  # noqa: S108
    *("--ipc", "none", "--security-opt", "no-new-privileges", "--env", "HOME=/nowhere"),
)
"""A container that may write nowhere but to /tmp, and has no /dev/shm."""
PUBLISHED = ("--publish", "127.0.0.1::8080")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models' folder as SageMaker fills it."""
    root = tmp_path_factory.mktemp("models")
    root.chmod(0o755)
    for seed, name in enumerate(("resnet18", "resnet50")):
        directory = root / name / "model"
        serving_artifacts.write(directory, name, 224, CLASSES, seed)
        for path in (directory.parent, directory, *directory.iterdir()):
            path.chmod(0o755)
    return root


ASK_INSIDE = """
import sys, urllib.request as u
request = u.Request("http://127.0.0.1:8080/invocations", sys.stdin.buffer.read())
request.add_header("Content-Type", "image/jpeg")
print(u.urlopen(request).read().decode())
"""


def test_real_time_in_a_gigabyte_without_shm_root_or_a_writable_disk(
    image: str, models: Path
) -> None:
    options = (
        *(*HARDENED, *PUBLISHED, "--memory", "1g", "--memory-swap", "1g"),
        *("--volume", f"{models}/resnet18/model:/opt/ml/model:ro"),
    )
    with container(image, "serve", options=options) as running:
        assert wait_until_healthy(running) <= {None, 503}
        alone = [json.loads(invoke(running, data, "image/jpeg")) for data in IMAGES]
        assert all(len(scores) == len(CLASSES) for scores in alone)
        for body, content_type in (
            (bodies.form(*IMAGES), bodies.FORM_TYPE),
            (bodies.document(*IMAGES), "application/json"),
        ):
            assert json.loads(invoke(running, body, content_type)) == alone
        batch = npy(np.zeros((20, 375, 500, 3), np.uint8))
        assert request(running, "POST", "/invocations", batch, "application/x-npy")[0] == 413
        bomb = bodies.zipped([(str(n), bytes(2**22)) for n in range(100)])
        assert request(running, "POST", "/invocations", bomb, "application/zip")[0] == 413

        # As the kernel does to whoever takes too much: the worker is the only child of the first.
        worker = running.execute("cat", "/proc/1/task/1/children").split()[0]
        started = time.monotonic()
        running.execute("python", "-c", f"import os; os.kill({worker}, 9)")
        wait_until(lambda: ping(running) == 200, seconds=30, what="a new worker")
        seconds = time.monotonic() - started
        assert json.loads(invoke(running, IMAGES[0], "image/jpeg")) == alone[0]
        assert seconds < 5, "3 seconds, and the time of two docker commands"
        assert running.stop(grace=30) == 0


def test_real_time_without_a_network(image: str, models: Path) -> None:
    options = (
        *(*HARDENED, "--network", "none"),
        *("--volume", f"{models}/resnet18/model:/opt/ml/model:ro"),
        *("--volume", f"{models}/picture.jpg:/picture.jpg:ro"),
    )
    (models / "picture.jpg").write_bytes(IMAGES[0])
    asks = ASK_INSIDE.replace("sys.stdin.buffer.read()", "open('/picture.jpg', 'rb').read()")
    with container(image, "serve", options=options) as running:
        wait_until(lambda: "Serving" in running.logs(), seconds=60, what="the model")
        assert len(json.loads(running.execute("python", "-c", asks))) == len(CLASSES)


def test_batch_transform(image: str, models: Path) -> None:
    options = (
        *(*HARDENED, *PUBLISHED, "--volume", f"{models}/resnet18/model:/opt/ml/model:ro"),
        *("--env", "SAGEMAKER_BATCH=true", "--env", "SAGEMAKER_BATCH_STRATEGY=MULTI_RECORD"),
        *("--env", "SAGEMAKER_MAX_PAYLOAD_IN_MB=20"),
        *("--env", "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS=4"),
    )
    with container(image, "serve", options=options) as running:
        wait_until_healthy(running)
        status, answer = request(running, "GET", "/execution-parameters")
        assert status == 200
        assert json.loads(answer) == {
            "MaxConcurrentTransforms": 4,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": 20,
        }
        alone = [json.loads(invoke(running, data, "image/jpeg")) for data in IMAGES]
        members = [(f"folder/{n}.jpg", IMAGES[n % 4]) for n in range(100)]
        members[50] = ("broken.jpg", b"no image")
        body = bodies.tar(members)
        lines = list(map(json.loads, invoke(running, body, "application/x-tar").splitlines()))
        assert [line["name"] for line in lines] == [name for name, _ in members]
        assert [n for n, line in enumerate(lines) if "error" in line] == [50]
        assert all(
            line["scores"] == alone[n % 4] for n, line in enumerate(lines) if "scores" in line
        )
        records = bodies.lines(*IMAGES)
        answers = invoke(running, records, "application/jsonlines").splitlines()
        assert list(map(json.loads, answers)) == alone


def test_multi_model_within_the_container_s_memory(image: str, models: Path) -> None:
    options = (
        *(*HARDENED, *PUBLISHED, "--memory", "600m", "--memory-swap", "600m"),
        *("--env", "SAGEMAKER_MULTI_MODEL=true", "--volume", f"{models}:/opt/ml/models:ro"),
    )

    def load(name: str, architecture: str) -> int:
        given = {"model_name": name, "url": f"/opt/ml/models/{architecture}/model"}
        body = json.dumps(given).encode()
        return request(running, "POST", "/models", body, "application/json")[0]

    with container(image, "serve", options=options) as running:
        assert wait_until_healthy(running) <= {None}, "it is ready without a model"
        loaded: list[str] = []
        status = 200
        while status == 200 and len(loaded) < 20:
            architecture = ("resnet18", "resnet50")[len(loaded) % 2]
            status = load(f"m{len(loaded):02}", architecture)
            loaded += [f"m{len(loaded):02}"] if status == 200 else []
        assert status == 507
        assert len(loaded) >= 2
        answers = [invoke(running, IMAGES[0], "image/jpeg", f"/models/{n}/invoke") for n in loaded]
        assert len(set(answers)) == 2
        status, page = request(running, "GET", "/models")
        assert [model["modelName"] for model in json.loads(page)["models"]] == loaded
        assert load(loaded[0], "resnet18") == 409
        for name in (loaded[0], loaded[1]):
            assert request(running, "DELETE", f"/models/{name}")[0] == 200
            assert request(running, "POST", f"/models/{name}/invoke", IMAGES[0])[0] == 404
        assert load("again", "resnet18") == 200, "memory was given back"
        assert invoke(running, IMAGES[0], "image/jpeg", "/models/again/invoke") == answers[0]
        assert len(running.execute("cat", "/proc/1/task/1/children").split()) == 1
        assert running.running(), "the kernel has killed nobody"
        assert running.stop(grace=30) == 0
