import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from launcher_workspace import LAUNCH, Workspace, scrubbed

pytest_plugins = ("launcher_fixtures",)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "There is no command 'trian'; did you mean 'train'?"),
        (["train", "--dta", "x"], "train has no option '--dta'; did you mean 'data'?"),
        (["train", "--learning-rate", "1"], "train has no option '--learning-rate'"),
        (["train"], "There are no images: give --data FOLDER"),
        (["train", "--data", "nowhere"], "--data nowhere does not exist."),
        (["train", "--data", "DATA", "--set", "lr"], "--set takes NAME=VALUE"),
        (["train", "--data", "DATA", "--lr", "0"], "lr must be greater than 0, got 0."),
        (["train", "--data", "DATA", "--set", "bath-size=3"], "did you mean 'batch-size'?"),
        (["train", "--data", "DATA", "--project", "a_b"], "project must be at most 32 letters"),
        (["deploy"], "There is no model yet: run `./launch.py train --data FOLDER` first."),
        (["deploy", "--model", "no.tar.gz"], "no.tar.gz is no file"),
        (["deploy", "--job", "no-such-job"], "Could not find training-job 'no-such-job'."),
        (["predict", "x.jpg"], "There is no endpoint yet: run `./launch.py deploy` first"),
        (["predict", "x.jpg", "--endpoint", "e"], "x.jpg does not exist."),
        (["logs"], "There is no job yet"),
        (["logs", "--job", "no-such-job"], "Could not find training-job 'no-such-job'."),
    ],
)
def test_refusals_are_one_sentence_that_says_what_to_do(
    workspace: Workspace, arguments: list[str], sentence: str
) -> None:
    answer = workspace.run(*[str(workspace.data) if text == "DATA" else text for text in arguments])
    assert answer.code == 1
    assert answer.stderr.startswith("error: ")
    assert sentence in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not (workspace.path / ".kennel/jobs/training-jobs").exists()


def test_dry_run_prints_the_exact_request_and_starts_nothing(workspace: Workspace) -> None:
    answer = workspace.run("train", "--data", workspace.data, "--set", "lr=0.010", "--dry-run")
    (only,) = answer.json["requests"]
    request = only["request"]
    assert (only["service"], only["operation"]) == ("sagemaker", "CreateTrainingJob")
    assert re.fullmatch(r"kennel-train-\d{4}-\d{6}-[0-9a-f]{4}", request.pop("TrainingJobName"))
    definitions = request["AlgorithmSpecification"].pop("MetricDefinitions")
    assert {"Name": "validation:accuracy"}.items() <= definitions[3].items()
    channel = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated"}
    assert request == {
        "AlgorithmSpecification": {"TrainingImage": "kennel:latest", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::000000000000:role/kennel-on-this-machine",
        "HyperParameters": {"lr": "0.01"},
        "InputDataConfig": [
            {
                "ChannelName": name,
                "DataSource": {
                    "S3DataSource": {**channel, "S3Uri": f"{workspace.data.as_uri()}/{name}/"}
                },
                "InputMode": "File",
            }
            for name in ("train", "validation", "test")
        ],
        "OutputDataConfig": {
            "S3OutputPath": (workspace.path / ".kennel/jobs/results/training").as_uri()
        },
        "ResourceConfig": {
            "InstanceType": "ml.g4dn.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 50,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 14400},
        "Tags": [
            {"Key": "kennel:made-by", "Value": "kennel"},
            {"Key": "kennel:project", "Value": "kennel"},
        ],
    }
    assert not (workspace.path / ".kennel").exists()


def test_flags_win_over_set_over_the_files_hyperparameters(workspace: Workspace) -> None:
    text = "[hyperparameters]\nlr = 0.5\nepochs = 7\nseed = 3\n"
    (workspace.path / "kennel.toml").write_text(text)
    answer = workspace.run(
        *("train", "--data", workspace.data, "--dry-run"),
        *("--set", "lr=0.4", "epochs=6", "--lr", "0.3"),
    )
    values = answer.json["requests"][0]["request"]["HyperParameters"]
    assert values == {"lr": "0.3", "epochs": "6", "seed": "3"}


def test_one_folder_of_classes_and_archives_are_one_channel(workspace: Workspace) -> None:
    archive = workspace.path / "dogImages.tar.gz"
    archive.write_bytes(b"")
    for data, address in (
        (workspace.data / "train", f"{(workspace.data / 'train').as_uri()}/"),
        (archive, archive.as_uri()),
    ):
        answer = workspace.run("train", "--data", data, "--dry-run")
        (channel,) = answer.json["requests"][0]["request"]["InputDataConfig"]
        assert channel["ChannelName"] == "training"
        assert channel["DataSource"]["S3DataSource"]["S3Uri"] == address


@pytest.mark.parametrize("command", ["train", "tune"])
def test_images_may_be_read_from_s3_as_they_are_needed(workspace: Workspace, command: str) -> None:
    given = (command, "--data", workspace.data, "--pretrained", __file__, "--dry-run")
    request = workspace.run(*given, "--input-mode", "FastFile").json["requests"][0]["request"]
    job = request.get("TrainingJobDefinition", request)
    assert job["AlgorithmSpecification"]["TrainingInputMode"] == "FastFile"
    modes = {channel["ChannelName"]: channel["InputMode"] for channel in job["InputDataConfig"]}
    assert modes == dict.fromkeys(("train", "validation", "test", "pretrained"), "FastFile")


def test_nothing_there_is_said_as_such(workspace: Workspace) -> None:
    answer = workspace.run("status")
    assert "There is nothing of the project kennel (process)." in answer.stdout
    assert "Next: ./launch.py train --data FOLDER" in answer.stdout
    assert "There is nothing to delete" in workspace.run("delete").stdout


def test_the_door_teaches_and_refuses(tmp_path: Path) -> None:
    def door(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(LAUNCH), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=scrubbed(), capture_output=True, text=True, check=False
        )

    helped = door()
    assert helped.returncode == 0
    assert "./launch.py train --data FOLDER" in helped.stdout
    for command in ("train", "deploy", "predict", "status", "logs", "delete"):
        assert command in helped.stdout
    refused = door("trian")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert door("train", "--help").returncode == 0
    status = door("status", "--json")
    assert json.loads(status.stdout) == {"front": [], "on": "process", "entries": []}


def test_a_file_that_cannot_be_used_is_one_sentence(workspace: Workspace) -> None:
    (workspace.path / ".kennel").mkdir()
    (workspace.path / ".kennel/jobs").write_text("in the way")
    answer = workspace.run("train", "--data", workspace.data)
    assert answer.code == 1
    assert answer.stderr.startswith("error: ")
    assert str(workspace.path / ".kennel/jobs") in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error(workspace: Workspace) -> None:
    process = workspace.start("train", "--data", workspace.data, "--dry-run")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=30) == 1


def test_a_python_without_the_packages_is_told_how_to_get_them() -> None:
    without = [sys.executable, "-S", str(LAUNCH), "--help"]
    done = subprocess.run(without, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    sentence = r"error: \S+ has no package \w+: set up with `make venv` once, .*\n"
    assert re.fullmatch(sentence, done.stderr)
