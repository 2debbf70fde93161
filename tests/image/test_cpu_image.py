"""The image of `--target cpu`: it serves on a CPU, weighs little, and says that it cannot train."""

import json
from pathlib import Path

import pytest
import serving_artifacts
from docker_engine import container, docker
from kennel_image import wait_until_healthy
from serving_artifacts import encoded, photograph
from serving_client import invoke

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]

LARGEST = 1.2e9
"""Bytes: what a serverless endpoint still starts quickly."""
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--user", "1000", "--cap-drop", "ALL"),  # noqa: S108
    *("--memory", "1g", "--memory-swap", "1g", "--publish", "127.0.0.1::8080"),
)


def test_it_serves_by_default_in_a_gigabyte_and_needs_no_root(
    cpu_image: str, tmp_path: Path
) -> None:
    classes = tuple(f"breed {number}" for number in range(133))
    tmp_path.chmod(0o755)
    serving_artifacts.write(tmp_path / "model", "resnet50", 224, classes, seed=0)
    for path in (tmp_path / "model", *(tmp_path / "model").iterdir()):
        path.chmod(0o755)
    options = (*HARDENED, "--volume", f"{tmp_path}/model:/opt/ml/model:ro")
    with container(cpu_image, options=options) as running:
        wait_until_healthy(running)
        scores = json.loads(invoke(running, encoded(photograph(0, (500, 375))), "image/jpeg"))
        assert len(scores) == len(classes)
        assert sum(scores) == pytest.approx(1, abs=1e-3)


def test_it_says_in_one_sentence_that_it_cannot_train(cpu_image: str, tmp_path: Path) -> None:
    options = ("--volume", f"{tmp_path}:/opt/ml/output")
    with container(cpu_image, "train", "--epochs", "1", options=options) as training:
        assert training.wait(seconds=60) == 1
        (said,) = training.logs().splitlines()
    sentence = (tmp_path / "failure").read_text()
    assert said == f"error: {sentence}"
    assert sentence.startswith("Training needs torch, and this image has none")


def test_it_weighs_less_than_its_limit(cpu_image: str, capsys: pytest.CaptureFixture[str]) -> None:
    size = int(docker("image", "inspect", "--format", "{{.Size}}", cpu_image))
    with capsys.disabled():
        print(f"\ncpu image size: {size / 1e9:.2f} GB")
    assert size <= LARGEST
