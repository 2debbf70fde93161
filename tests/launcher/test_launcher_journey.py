import re
import signal

import pytest
from launcher_workspace import TINY, Workspace

from container.errors import UserError

pytest_plugins = ("launcher_fixtures",)


def test_each_command_finds_what_the_one_before_made(trained: Workspace) -> None:
    logs = trained.run("logs")
    assert "validation:accuracy=" in logs.stdout
    deployed = trained.run("deploy")
    assert deployed.code == 0, deployed.stderr
    assert "kennel: in service." in deployed.stdout
    assert "./launch.py predict IMAGE" in deployed.stdout
    predicted = trained.run("predict", trained.data / "test", "--json")
    assert len(predicted.json["predictions"]) == 15
    served = trained.run("logs", "--endpoint")
    assert served.code == 0
    assert "training job" in trained.run("status").stdout


def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(workspace: Workspace) -> None:
    process = workspace.start("train", "--data", workspace.data, "--set", *TINY[:-2], "epochs=500")
    assert process.stdout
    for line in process.stdout:
        if "epoch 1/" in line:
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted. What was started goes on" in stderr

    # The launcher is gone; the job is found again, and stopped by its id.
    status = workspace.run("status")
    assert "runs (InProgress)" in status.stdout
    assert workspace.run("delete", "--yes").code == 0
    followed = workspace.run("logs", "--follow")
    assert "stopped after" in followed.stdout


def test_a_killed_launcher_leaves_a_job_that_is_found_again(workspace: Workspace) -> None:
    process = workspace.start("train", "--data", workspace.data, "--set", *TINY)
    assert process.stdout
    next(line for line in process.stdout if "downloading" in line or "training" in line)
    process.kill()
    process.communicate(timeout=30)
    followed = workspace.run("logs", "--follow")
    assert followed.code == 0
    assert "completed after" in followed.stdout
    assert len(workspace.client.list_training_jobs()["TrainingJobSummaries"]) == 1


def test_a_failed_training_ends_with_the_reason_and_what_to_try(workspace: Workspace) -> None:
    bare = workspace.path / "bare"
    (bare / "only-class").mkdir(parents=True)
    answer = workspace.run("train", "--data", bare, "--set", *TINY)
    assert answer.code == 1
    assert "failed: AlgorithmError: " in answer.stderr
    assert "`./launch.py logs` shows what it printed." in answer.stderr


def test_the_report_is_fetched_from_the_jobs_output(trained: Workspace) -> None:
    nowhere = trained.run("report", "--output", "no/such/own.html")
    assert nowhere.stderr == (
        "error: --output no/such/own.html cannot be written: No such file or directory.\n"
    )
    would = trained.run("report", "--output", "own.html", "--dry-run")
    assert "would be written to own.html" in would.stdout
    assert not (trained.path / "own.html").exists()
    answer = trained.run("report", "--output", "own.html")
    assert answer.code == 0, answer.stderr
    assert "<html" in (trained.path / "own.html").read_text()
    assert (
        "There is no model yet" in trained.run("report", "--project", "x", "--on", "docker").stderr
    )


STEPS = ("doctor", "upload", "tune", "train", "report", "deploy", "predict", "transform", "explain")


def test_run_names_every_step_and_sends_nothing_when_dry(workspace: Workspace) -> None:
    answer = workspace.run(
        *("run", "--data", workspace.data, "--set", *TINY, "--push", "--delete", "--dry-run"),
        *("--max-run", "600"),
    )
    named = re.findall(r"\./launch\.py (\w+)", answer.stdout)
    assert named == ["push", *STEPS, "delete"]
    assert '"MaxRuntimeInSeconds": 600' in answer.stdout  # the settings are each step's
    assert not (workspace.path / ".kennel").exists()


def test_run_without_a_test_folder_says_what_the_model_has_seen(workspace: Workspace) -> None:
    data = workspace.data / "train"
    shown = workspace.run("run", "--data", data, "--jobs", "0", "--dry-run").stdout
    assert "was trained on most of those" in shown
    assert f"./launch.py transform {data}\n" in shown
    archive = workspace.path / "images.tar"
    archive.touch()
    shown = workspace.run("run", "--data", archive, "--jobs", "0", "--dry-run").stdout
    assert "nothing is predicted" in shown
    assert "./launch.py explain" not in shown


def test_run_ends_where_a_step_fails(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.diagnosis.PROGRAMS_NEED", ("no_such_package",))
    answer = workspace.run("run", "--data", workspace.data)
    assert answer.code == 1
    assert "run `make venv`" in answer.stdout
    assert "upload" not in answer.stdout


def test_run_deletes_what_it_deployed_where_a_later_step_fails(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise UserError("The endpoint refused.")

    monkeypatch.setattr("launcher.commands.predict.run", refuse)
    answer = workspace.run(
        *("run", "--data", workspace.data, "--set", *TINY, "--jobs", "0", "--delete")
    )
    assert answer.code == 1
    assert "The endpoint refused." in answer.stderr
    assert "transform" not in answer.stdout
    assert workspace.client.list_endpoints()["Endpoints"] == []
    assert len(workspace.client.list_training_jobs()["TrainingJobSummaries"]) == 1
