"""The commands of docs/serving.md run as they stand, one server for each mode."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import serving_artifacts
from opt_ml import ROOT
from PIL import Image
from serving_artifacts import CLASSES, encoded, photograph
from serving_process import free_port

TEXT = (ROOT / "docs/serving.md").read_text()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A checkout with photographs, a model, and a models' folder."""
    for name in ("container", "serve"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "photo.jpg").write_bytes(encoded(photograph(0)))
    (tmp_path / "other.png").write_bytes(encoded(photograph(1), "PNG"))
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        (tmp_path / f"photos/{seed}.jpg").write_bytes(encoded(photograph(seed)))
    serving_artifacts.write(tmp_path / "job/model")
    shutil.copytree(tmp_path / "job/model", tmp_path / "job/models/dogs/model")
    return tmp_path


START = "./serve &\ncurl --retry 30 --retry-connrefused http://localhost:8080/ping\n"


def run(directory: Path, mode: str, before: str = "") -> list[str]:
    """What each command of a mode's block printed."""
    (commands,) = re.findall(rf"^```sh {mode}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    port = free_port()
    script = "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n"
    script += 'curl() { command curl --silent --show-error --fail "$@"; printf "\\036"; }\n'
    script += (
        (before + commands)
        .replace("localhost:8080", f"127.0.0.1:{port}")
        .replace("/opt/ml/models", str(directory / "job/models"))
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env=os.environ
        | {"SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_BASE_DIR": str(directory / "job")}
        | {"PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\036")[:-1]


def alone(seed: int) -> Any:
    client = serving_artifacts.client()
    body = encoded(photograph(seed))
    return client.post("/invocations", data=body, content_type="image/jpeg").get_json()


def test_real_time(directory: Path) -> None:
    _, one, form, document, several, array, metrics, description = run(directory, "one-model")
    assert json.loads(one) == json.loads(document) == pytest.approx(alone(0), abs=1e-6)
    assert json.loads(form)[0] == json.loads(one)
    assert [len(entry) for entry in json.loads(form)] == [len(CLASSES)] * 2
    assert [len(entry) for entry in json.loads(several)] == [2, 2]
    assert sum(json.loads(array)) == pytest.approx(1, abs=1e-5)
    assert 'kennel_requests_total{code="200",route="/invocations"} 5.0' in metrics
    assert "/invocations" in json.loads(description)["paths"]


def test_batch_transform(directory: Path) -> None:
    _, parameters, tar, zipped, lines = run(directory, "batch")
    assert json.loads(parameters)["MaxPayloadInMB"] == 20
    named = [json.loads(line) for line in lines.splitlines()]
    assert [line["name"] for line in named] == [f"photos/{seed}.jpg" for seed in range(3)]
    assert sorted(tar.splitlines()) == sorted(lines.splitlines())
    assert [row.split(",")[0] for row in sorted(zipped.splitlines())] == [
        line["name"] for line in named
    ]


def test_multi_model(directory: Path) -> None:
    _, loaded, listed, one, answer, unloaded = map(json.loads, run(directory, "multi-model"))
    assert loaded == one == listed["models"][0]
    assert one["modelName"] == "dogs"
    assert answer == pytest.approx(alone(0), abs=1e-6)
    assert unloaded == {"modelName": "dogs"}


def test_a_script_of_one_s_own(directory: Path) -> None:
    ping, answer = map(json.loads, run(directory, "script"))
    assert "output_fn" in ping["engine"]
    scores = alone(0)
    assert answer == {"answer": ["cat", "dog", "fox", "owl", "yak"][scores.index(max(scores))]}


def test_explanations(directory: Path) -> None:
    serving_artifacts.write(directory / "job/model", classes=("lemon", "plum", "quince"))
    _, ranked, map_of_plum, _, occlusion = run(directory, "explanations", before=START)
    assert {entry["label"] for entry in json.loads(ranked)["predictions"]} == {
        *("lemon", "plum", "quince")
    }
    assert json.loads(ranked)["explanation"]["method"] == "cam"
    for answer, method in ((map_of_plum, "cam"), (occlusion, "occlusion")):
        explanation = json.loads(answer)["explanation"]
        assert (explanation["method"], explanation["label"]) == (method, "plum")
    with Image.open(directory / "overlay.png") as overlay:
        assert overlay.format == "PNG"


def test_the_limits_are_those_of_the_code() -> None:
    from container import images
    from container.serving import server, slow_clients
    from container.serving.inputs import archives, items

    for said in (
        f"| {items.MAX_IMAGES} |",
        f"| {items.MAX_RECORDS:,} |",
        f"| {archives.MAX_UNPACKED // 2**20} MB |",
        f"| {images.MAX_PIXELS // 10**6} million |",
        f"| {slow_clients.HEAD_SECONDS:g} s; {slow_clients.STALL_SECONDS:g} s; "
        f"{slow_clients.BODY_SECONDS:g} s |",
        f"{slow_clients.PIECE // 2**10} KB of the answer | {slow_clients.ANSWER_SECONDS:g} s |",
        f"after {server.GRACEFUL_SECONDS} seconds",
    ):
        assert said in TEXT, said
