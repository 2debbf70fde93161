import signal

from launcher_workspace import TINY, Workspace

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


def test_a_failed_training_ends_with_the_reason_and_what_to_try(workspace: Workspace) -> None:
    bare = workspace.path / "bare"
    (bare / "only-class").mkdir(parents=True)
    answer = workspace.run("train", "--data", bare, "--set", *TINY)
    assert answer.code == 1
    assert "failed: AlgorithmError: " in answer.stderr
    assert "`./launch.py logs` shows what it printed." in answer.stderr


def test_the_report_is_fetched_from_the_jobs_output(trained: Workspace) -> None:
    answer = trained.run("report", "--output", "own.html")
    assert answer.code == 0, answer.stderr
    assert "<html" in (trained.path / "own.html").read_text()
    assert (
        "There is no model yet" in trained.run("report", "--project", "x", "--on", "docker").stderr
    )


def test_run_is_every_step_in_order(workspace: Workspace) -> None:
    shown = workspace.run("run", "--data", workspace.data, "--jobs", "2", "--dry-run").stdout
    for step in ("tune --jobs 2", "train --best", "report", "deploy", "predict", "transform"):
        assert f"./launch.py {step}" in shown
    answer = workspace.run("run", "--data", workspace.data, "--set", *TINY, "--delete")
    assert answer.code == 0, answer.stderr
    assert "── 6. ./launch.py delete --yes" in answer.stdout
    assert "Accuracy " in answer.stdout
    assert (workspace.path / "report.html").is_file()
    assert workspace.client.list_endpoints()["Endpoints"] == []
