"""TensorBoard's files, read back by smdebug's reader of the same format, and MLflow."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from container import metrics
from container.debugging.logbook import Logbook
from container.debugging.observer import Observer, observing
from container.debugging.tensorboard import EventFile
from container.hyperparameters import Hyperparameters
from container.job import Job

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


def read_back(path: Path) -> list[tuple[str, float, int]]:
    """By smdebug's reader of protobuf and checksums."""
    from smdebug.core.tfevent.proto.event_pb2 import Event
    from smdebug.core.tfrecord.record_reader import RecordReader

    reader = RecordReader(str(path))
    found = []
    while reader.has_data():
        event = Event()
        event.ParseFromString(reader.read_record(check="event"))
        found += [(v.tag, v.simple_value, event.step) for v in event.summary.value]
    return found


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves it open
def test_event_files_hold_what_was_added(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.add({"train:loss": 0.5, "train:accuracy": 0.25}, 10)
    file.add({"train:loss": 0.125}, 300)
    assert read_back(file.path) == [
        ("train:loss", 0.5, 10),
        ("train:accuracy", 0.25, 10),
        ("train:loss", 0.125, 300),
    ]


def test_a_log_that_fails_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logbook = Logbook(tmp_path / "tensorboard", {})
    for path in (tmp_path / "tensorboard").iterdir():
        path.unlink()
        path.mkdir()
    logbook.add({"train:loss": 1.0}, 1)
    logbook.add({"train:loss": 1.0}, 2)
    assert capsys.readouterr().out.count("TensorBoard gets no more metrics") == 1


def test_mlflow_gets_metrics_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []
    client = ModuleType("mlflow")
    for name in ("set_experiment", "log_params", "log_artifact", "end_run"):
        setattr(client, name, lambda value, name=name: calls.append((name, value)))
    client.start_run = lambda run_name: calls.append(("start_run", run_name))  # type: ignore[attr-defined]
    client.log_metrics = lambda values, step: calls.append(("log_metrics", (values, step)))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///nowhere")
    monkeypatch.setenv("TRAINING_JOB_NAME", "dogs-1")
    (tmp_path / "report.html").touch()
    logbook = Logbook(None, {"lr": "0.1"})
    logbook.add({"train:loss": 0.5}, 7)
    logbook.close(tmp_path, "completed")
    assert calls == [
        ("set_experiment", "kennel"),
        ("start_run", "dogs-1"),
        ("log_params", {"lr": "0.1"}),
        ("log_metrics", ({"train/loss": 0.5}, 7)),
        ("log_artifact", str(tmp_path / "report.html")),
        ("end_run", "FINISHED"),
    ]


def test_a_missing_client_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///nowhere")
    Logbook(None, {}).add({"train:loss": 1.0}, 1)
    assert "MLflow gets no metrics" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
def test_steps_are_counted_on_after_a_resume(tmp_path: Path) -> None:
    options = Hyperparameters(profile=False, tensorboard=True, profile_steps="0-1")
    observer = Observer(Job(tmp_path), options)
    observer.register(nn.Linear(1, 2), nn.CrossEntropyLoss(), trained=7)
    observer.training()
    observer.stepped(0.5)
    observer.measured({metrics.TRAIN_LOSS: 0.25})
    observer.finish()
    (path,) = (tmp_path / "output/tensorboard").iterdir()
    assert read_back(path) == [("train:loss", 0.25, 8), ("learning-rate", 0.5, 8)]
    # The first two steps were timed, if at all, before the resume.
    assert not (tmp_path / "output/profiler/operators.json").exists()


def test_of_many_processes_the_first_alone_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///nowhere")
    options = Hyperparameters(tensorboard=True, profile_steps="0-0")
    with observing(Job(tmp_path), options, first=False) as observer:
        observer.register(nn.Linear(1, 2), nn.CrossEntropyLoss())
        observer.training()
        observer.stepped(0.5)
        observer.measured({metrics.TRAIN_LOSS: 0.25})
        observer.finish()
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []
