import json
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from launcher_workspace import TINY, Workspace, wait_until

from container.errors import UserError
from launcher import training
from launcher.dataset import Inputs
from launcher.local import processes
from launcher.local.jobs import TRAINING_JOB
from launcher.settings import Settings
from launcher.store import FileStore
from launcher.training import Place

pytest_plugins = ("launcher_fixtures",)


def request(place: Workspace, name: str = "job", **hyperparameters: str) -> dict[str, Any]:
    values = dict(text.split("=") for text in TINY) | hyperparameters
    output = (place.path / "results").as_uri()
    role = "arn:aws:iam::000000000000:role/here"
    settings = Settings(data=str(place.data))
    inputs = Inputs(settings, FileStore(place.path), None)
    return training.request(settings, name, Place(role, "kennel", output), inputs.channels, values)


def until(description: Callable[[], dict[str, Any]], *statuses: str) -> dict[str, Any]:
    wait_until(lambda: description()["TrainingJobStatus"] in statuses)
    return description()


def test_a_job_leaves_its_artifact_where_the_request_says(trained: Workspace) -> None:
    (job,) = trained.client.list_training_jobs()["TrainingJobSummaries"]
    name = job["TrainingJobName"]
    description = trained.client.describe_training_job(TrainingJobName=name)
    assert description["TrainingJobStatus"] == "Completed"
    assert description["TrainingEndTime"] >= description["TrainingStartTime"]
    place = trained.path / f".kennel/jobs/results/training/{name}/output"
    assert description["ModelArtifacts"] == {"S3ModelArtifacts": (place / "model.tar.gz").as_uri()}
    with tarfile.open(place / "model.tar.gz") as archive:
        assert {"model.json", "model.safetensors"} <= set(archive.getnames())
    with tarfile.open(place / "output.tar.gz") as archive:
        assert "metrics.jsonl" in archive.getnames()
    measured = {entry["MetricName"] for entry in description["FinalMetricDataList"]}
    assert {"train:loss", "validation:accuracy", "test:accuracy"} <= measured


def test_the_jobs_directory_is_what_the_service_lays_out(trained: Workspace) -> None:
    (job,) = trained.client.list_training_jobs()["TrainingJobSummaries"]
    base = trained.client.folder.directory(TRAINING_JOB, job["TrainingJobName"]) / "opt-ml"
    values = json.loads((base / "input/config/hyperparameters.json").read_text())
    assert values["weights"] == "none"
    assert all(isinstance(value, str) for value in values.values())
    assert (base / "input/data/train").resolve() == trained.data / "train"
    described = json.loads((base / "input/config/inputdataconfig.json").read_text())
    assert described["train"]["TrainingInputMode"] == "File"
    assert json.loads((base / "input/config/resourceconfig.json").read_text())["hosts"] == [
        "algo-1"
    ]


def test_a_failed_job_says_what_the_image_said(workspace: Workspace) -> None:
    client = workspace.client
    client.create_training_job(**request(workspace, lr="0"))
    found = until(lambda: client.describe_training_job(TrainingJobName="job"), "Failed")
    assert found["FailureReason"] == "AlgorithmError: lr must be greater than 0, got 0."


def test_missing_data_fails_the_job_as_it_does_on_the_service(workspace: Workspace) -> None:
    given = request(workspace)
    source = given["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    source["S3Uri"] = "file:///no/such/folder"
    workspace.client.create_training_job(**given)
    found = until(lambda: workspace.client.describe_training_job(TrainingJobName="job"), "Failed")
    assert found["FailureReason"].startswith("ClientError: Data download failed")


def test_a_stopped_job_keeps_its_model(workspace: Workspace) -> None:
    client = workspace.client
    client.create_training_job(**request(workspace, epochs="500"))
    log = workspace.path / ".kennel/jobs/training-jobs/job/log.txt"
    wait_until(lambda: log.exists() and "epoch 1/" in log.read_text())
    client.stop_training_job(TrainingJobName="job")
    found = until(lambda: client.describe_training_job(TrainingJobName="job"), "Stopped")
    assert Path(found["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("file://")).is_file()
    with pytest.raises(ClientError, match="is over and cannot be stopped"):
        client.stop_training_job(TrainingJobName="job")


def test_the_longest_run_time_holds(workspace: Workspace) -> None:
    given = request(workspace, epochs="500")
    given["StoppingCondition"] = {"MaxRuntimeInSeconds": 1}
    workspace.client.create_training_job(**given)
    found = until(lambda: workspace.client.describe_training_job(TrainingJobName="job"), "Stopped")
    assert found["SecondaryStatus"] == "MaxRuntimeExceeded"


def test_when_its_supervisor_is_killed_a_job_fails_and_leaves_no_process(
    workspace: Workspace,
) -> None:
    client = workspace.client
    client.create_training_job(**request(workspace, epochs="500"))
    until(
        lambda: {
            "TrainingJobStatus": client.describe_training_job(TrainingJobName="job")[
                "SecondaryStatus"
            ]
        },
        "Training",
    )
    directory = client.folder.directory(TRAINING_JOB, "job")
    run = processes.Identity.read(json.loads((directory / "run.json").read_text()))
    supervisor = processes.Identity.read(json.loads((directory / "supervisor.json").read_text()))
    assert run
    assert supervisor
    assert run.runs()
    os.kill(supervisor.pid, signal.SIGKILL)
    found = until(lambda: client.describe_training_job(TrainingJobName="job"), "Failed")
    assert found["FailureReason"].startswith("InternalServerError")
    assert not run.runs()


def test_a_job_whose_launcher_was_killed_before_it_started_fails(workspace: Workspace) -> None:
    client = workspace.client
    client.folder.create(TRAINING_JOB, request(workspace), engine="process")
    assert client.describe_training_job(TrainingJobName="job")["SecondaryStatus"] == "Starting"
    client.folder.put(TRAINING_JOB, "job", CreationTime="2026-01-01T00:00:00+00:00")
    assert client.describe_training_job(TrainingJobName="job")["TrainingJobStatus"] == "Failed"


def test_the_services_own_refusals(workspace: Workspace) -> None:
    client = workspace.client
    client.folder.create(TRAINING_JOB, request(workspace), engine="process")
    with pytest.raises(ClientError, match="already exists"):
        client.create_training_job(**request(workspace))
    with pytest.raises(ClientError, match="Could not find training-job 'other'"):
        client.describe_training_job(TrainingJobName="other")
    with pytest.raises(UserError, match=r"HyperParameters\.lr.*float"):
        client.create_training_job(**request(workspace, "next") | {"HyperParameters": {"lr": 0.1}})


def test_a_process_is_known_by_its_start_time_too() -> None:
    own = processes.Identity.of(os.getpid())
    assert own
    assert own.runs()
    other = processes.Identity(own.pid, "another time")
    assert not other.runs()
    other.stop(0)
    assert own.runs()


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps")
def test_without_proc_a_process_is_known_again_in_another_time_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PROCESSES", tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    own = processes.Identity.of(os.getpid())
    assert own
    assert own.runs()
    monkeypatch.setenv("TZ", "America/New_York")
    assert own.runs()
    # ps says the moment in whole seconds, in words that can be read again.
    started = time.strptime(own.started, "%a %b %d %H:%M:%S %Y")
    assert started <= time.gmtime()
