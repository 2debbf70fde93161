import csv
import io
import json
import re
import shutil
import signal
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import serving_artifacts
from launcher_workspace import Workspace, wait_until
from PIL import Image

from launcher import records
from launcher.local import processes
from launcher.local.jobs import SERVER
from launcher.prediction import LARGEST_BODY
from launcher.store import FileStore
from launcher.transform import THREADS, Row, accuracy, answers_for, as_csv, joined

pytest_plugins = ("launcher_fixtures",)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("transformed")
    serving_artifacts.write(directory / "model", classes=("class 0", "class 1", "class 2"))
    with tarfile.open(directory / "model.tar.gz", "w:gz", compresslevel=1) as file:
        for path in (directory / "model").iterdir():
            file.add(path, arcname=path.name)
    return directory / "model.tar.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images in folders that name classes, and one that is none."""
    generator = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / f"photos/class {number % 3}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "photos/class 0/broken.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def test_answers_are_joined_to_the_images_names(
    workspace: Workspace, model: Path, folder: Path
) -> None:
    answer = workspace.run("transform", folder, "--model", model, "--json")
    assert answer.code == 0, answer.stderr
    found = answer.json
    assert found["images"] == 7
    assert found["artifact"].endswith("/model.tar.gz")
    assert found["without_answer"] == ["class 0/broken.jpg"]
    with (workspace.path / "transform.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert len(rows) == 7
    assert rows["class 1/1.jpg"]["truth"] == "class 1"
    assert 0 < float(rows["class 1/1.jpg"]["probability"]) <= 1
    right = [row["label"] == row["truth"] for row in rows.values()]
    assert found["accuracy"] == pytest.approx(sum(right) / 7)
    # As on SageMaker, the job has failed by the one image, and the answers of the others are there.
    name = found["transform_job"]
    job = workspace.client.describe_transform_job(TransformJobName=name)
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"] == "ClientError: 1 of 7 images were refused; the log says why."
    log = workspace.path / f".kennel/jobs/transform-jobs/{name}/log.txt"
    assert "broken.jpg: 4" in log.read_text()
    # The server was the job's own, and is gone with it.
    assert workspace.client.list_endpoints()["Endpoints"] == []
    assert "transform" in workspace.run("status").stdout


def test_a_transform_says_whose_model_it_takes(
    workspace: Workspace, model: Path, folder: Path
) -> None:
    shown = workspace.run("transform", folder, "--model", model).stdout
    assert re.search(
        rf"^Transforming 7 images of {folder} by \S+/model\.tar\.gz \(process\)$", shown, re.M
    )


def test_a_transform_that_cannot_be_done_says_why(
    workspace: Workspace, model: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is empty" in workspace.run("transform", empty, "--model", model).stderr
    (empty / "notes.txt").write_text("no image")
    assert "There are no images in" in workspace.run("transform", empty, "--model", model).stderr
    shutil.move(empty / "notes.txt", empty / "all.jpg")
    refused = workspace.run("transform", empty, "--model", model)
    assert refused.code == 1
    assert "the model refused every image" in refused.stderr


def test_an_image_that_an_endpoint_would_not_take_is_answered_and_by_no_proxy(
    workspace: Workspace, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    (tmp_path / "large").mkdir()
    Image.fromarray(pixels).save(tmp_path / "large/noise.png", compress_level=0)
    assert (tmp_path / "large/noise.png").stat().st_size > LARGEST_BODY
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    answer = workspace.run("transform", tmp_path / "large", "--model", model, "--json")
    assert answer.code == 0, answer.stderr
    assert answer.json["without_answer"] == []


@pytest.mark.parametrize(
    ("images", "answers", "found"),
    [
        # What has no answer does not get that of its namesake in another folder.
        (["a/1.jpg", "b/1.jpg"], ["b/1.jpg.out"], [None, "b/1.jpg.out"]),
        (["a/1.jpg", "b/1.jpg"], ["x/b/1.jpg.out"], [None, "x/b/1.jpg.out"]),
        (["a/1.jpg", "b/1.jpg"], ["1.jpg.out"], [None, None]),
        (["a/1.jpg", "b/2.jpg"], ["2.jpg.out", "1.jpg.out"], ["1.jpg.out", "2.jpg.out"]),
    ],
)
def test_an_answer_is_one_images(
    images: list[str], answers: list[str], found: list[str | None]
) -> None:
    assert answers_for(images, answers) == found


def test_many_answers_are_joined_in_a_time_that_grows_with_their_number() -> None:
    images = [f"class {number % 100}/{number}.jpg" for number in range(20_000)]
    answers = [f"photos/{image}.out" for image in reversed(images)]
    began = time.monotonic()
    assert answers_for(images, answers) == answers[::-1]
    assert time.monotonic() - began < 5  # compared in pairs they would take hours


def test_answers_are_fetched_several_at_a_time_and_keep_their_order(tmp_path: Path) -> None:
    class Slow(FileStore):
        """Answers none before as many are asked for as are fetched at a time."""

        def fetch(self, address: str) -> bytes:
            together.wait(30)
            label = Path(address).stem.removesuffix(".jpg")
            return json.dumps([{"label": label, "probability": 1.0}]).encode()

    together = threading.Barrier(THREADS)
    names = [f"{number}.jpg" for number in range(2 * THREADS)]
    for name in names:
        (tmp_path / f"{name}.out").touch()
    rows = joined(Slow(tmp_path), "file:///unused", tmp_path.as_uri(), names)
    assert [row.label for row in rows] == [str(number) for number in range(2 * THREADS)]


def test_folders_that_name_no_class_are_not_judged(tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / "a").mkdir(parents=True)
    (output / "a/1.jpg.out").write_text('[{"label": "cat", "probability": 0.9}]')
    rows = joined(FileStore(tmp_path), "file:///unused", output.as_uri(), ["a/1.jpg"])
    assert rows == [Row("a/1.jpg", "cat", 0.9, "")]
    assert accuracy(rows) is None
    assert list(csv.reader(io.StringIO(as_csv(rows))))[1] == ["a/1.jpg", "cat", "0.900000", ""]


def test_when_its_supervisor_is_killed_a_transform_fails_and_leaves_no_server(
    workspace: Workspace, model: Path, folder: Path
) -> None:
    command = workspace.start("transform", folder, "--model", model)
    jobs = workspace.path / ".kennel/jobs/transform-jobs"
    wait_until(lambda: any('"pid"' in path.read_text() for path in jobs.glob(f"*/{SERVER}")))
    (job,) = jobs.iterdir()
    server = processes.Identity.read(records.read(job / SERVER))
    supervisor = processes.Identity.read(records.read(job / "supervisor.json"))
    assert server
    assert supervisor
    supervisor.signal(signal.SIGKILL)
    _, stderr = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "the process that looked after this job is gone" in stderr
    assert not server.runs()
