import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    UnauthorizedSSOTokenError,
)
from launcher_workspace import REGION, ROLE, TINY, Workspace, aws

from container.errors import UserError
from container.training import dataset as job_dataset
from launcher import backends, dataset, endpoint, image, limits, names, refusals
from launcher.api import Call
from launcher.console import Console
from launcher.memory import Memory
from launcher.s3 import S3Store
from launcher.session import Session
from launcher.settings import Settings

pytest_plugins = ("launcher_fixtures", "launcher_moto")

BUCKET = f"sagemaker-{REGION}-123456789012"
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/kennel:latest"


def test_the_whole_journey_over_http(cloud: Workspace, moto_address: str) -> None:
    trained = cloud.run("train", "--data", cloud.data, "--set", *TINY, "--json")
    assert trained.code == 0, trained.stderr
    job = aws("sagemaker").describe_training_job(TrainingJobName=trained.json["training_job"])
    assert job["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    assert job["RoleArn"] == ROLE
    assert job["HyperParameters"]["image-size"] == "32"
    channels = {entry["ChannelName"]: entry for entry in job["InputDataConfig"]}
    assert set(channels) == {"train", "validation", "test"}
    address = channels["train"]["DataSource"]["S3DataSource"]["S3Uri"]
    assert address.startswith(f"s3://{BUCKET}/kennel/data/digits-")
    prefix = address.removeprefix(f"s3://{BUCKET}/")
    listed = aws("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)["KeyCount"]
    assert listed == len(list((cloud.data / "train").rglob("*.jpg")))

    deployed = cloud.run("deploy", "--json")
    assert deployed.code == 0, deployed.stderr
    model = aws("sagemaker").describe_model(ModelName=deployed.json["model"])
    artifact = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert model["PrimaryContainer"] == {"Image": IMAGE, "ModelDataUrl": artifact}
    endpoint = aws("sagemaker").describe_endpoint(EndpointName="kennel")
    assert endpoint["EndpointConfigName"] == deployed.json["model"]
    assert "ml.m5.large" in cloud.run("deploy", "--dry-run", "--project", "other").stdout

    answers = {"results": [{"Body": json.dumps([{"label": "3", "probability": 0.9}])}]}
    body = json.dumps({**answers, "region": REGION}).encode()
    place = f"{moto_address}/moto-api/static/sagemaker/endpoint-results"
    urllib.request.urlopen(urllib.request.Request(place, body, method="POST")).close()
    photograph = cloud.path / "photograph.jpg"
    photograph.write_text("moto takes no bytes that are not UTF-8")
    predicted = cloud.run("predict", photograph, "--json")
    assert predicted.code == 0, predicted.stderr
    assert predicted.json["predictions"][str(photograph)][0]["label"] == "3"

    status = cloud.run("status")
    assert "The endpoint kennel costs money (InService)." in status.stdout
    aws("sagemaker").create_model(
        ModelName="kennel-somebody-elses",
        PrimaryContainer={"Image": IMAGE},
        ExecutionRoleArn=ROLE,
    )
    assert cloud.run("delete", "--yes").code == 0
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []
    assert aws("sagemaker").list_endpoint_configs()["EndpointConfigs"] == []
    left = aws("sagemaker").list_models()["Models"]
    assert [entry["ModelName"] for entry in left] == ["kennel-somebody-elses"]


def test_a_tuning_is_created_with_the_request_that_dry_run_shows(cloud: Workspace) -> None:
    arguments = ("tune", "--data", cloud.data, "--recipe", "small-batches")
    shown = cloud.run(*arguments, "--dry-run").json
    assert shown["paid_by_the_hour"] == [
        {
            "what": "tuning",
            "instance_type": "ml.g4dn.xlarge",
            "instances": 2,
            "longest_seconds": 14400,
            "jobs": 16,
            "longest_seconds_are_for": "each job",
        }
    ]
    started = cloud.run(*arguments, "--no-wait", "--json")
    assert started.code == 0, started.stderr
    job = aws("sagemaker").describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=started.json["tuning_job"]
    )
    sent = shown["requests"][0]["request"]
    assert job["HyperParameterTuningJobConfig"] == sent["HyperParameterTuningJobConfig"]
    static = job["TrainingJobDefinition"]["StaticHyperParameters"]
    assert static == {"arch": "resnet18"}


def test_a_grid_says_how_many_trials_it_starts(cloud: Workspace) -> None:
    given = ("--strategy", "Grid", "--range", "lr=0.1,0.01", "batch-size=16,32,64", "--no-wait")
    shown = cloud.run("tune", "--data", cloud.data, *given).stdout
    assert "Grid, every combination, 6 trials, 2 at a time" in shown
    (paid,) = cloud.run("tune", "--data", cloud.data, *given, "--dry-run").json["paid_by_the_hour"]
    assert paid["jobs"] == 6


def test_a_folder_is_uploaded_once_and_again_when_it_changes(
    cloud: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.jpg").write_bytes(name.encode())
    first = cloud.run("upload", "--data", folder)
    assert "uploading 2 of 2 files" in first.stdout
    assert "is in S3 already" in cloud.run("upload").stdout
    (folder / "cat/1.jpg").write_bytes(b"cow")
    assert "uploading 2 of 2 files" in cloud.run("upload").stdout
    address = cloud.run("upload", "--json").json["address"]
    (folder / "cat/2.jpg").write_bytes(b"calf")
    assert cloud.run("upload", "--dry-run", "--json").json["address"] != address
    aws("s3").delete_object(Bucket=BUCKET, Key=f"{address.split('/', 3)[3]}/dog/1.jpg")
    (folder / "cat/2.jpg").unlink()
    assert "uploading 1 of 2 files" in cloud.run("upload").stdout


def test_an_upload_that_s3_refuses_says_what_was_not_allowed(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BaseClient._make_api_call

    def refuse(self: BaseClient, operation: str, given: Any) -> Any:
        if operation == "PutObject":
            raise refused("AccessDenied", "no s3:PutObject", operation)
        return real(self, operation, given)

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", refuse)
    answer = cloud.run("upload", "--data", cloud.data)
    assert answer.code == 1
    assert answer.stderr == (
        "error: AWS does not allow this (PutObject: no s3:PutObject). "
        "docs/launcher-permissions.md lists what is needed.\n"
    )


def test_an_address_in_s3_is_used_as_it_is(cloud: Workspace) -> None:
    aws("s3").create_bucket(
        Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    for key in ("dogs/train/a/1.jpg", "dogs/valid/a/2.jpg", "dogs/test/a/3.jpg", "cats/b/1.jpg"):
        aws("s3").put_object(Bucket="photos", Key=key, Body=b"")

    def channels(data: str) -> list[str]:
        shown = cloud.run("train", "--data", data, "--dry-run").json["requests"][0]["request"]
        return [entry["ChannelName"] for entry in shown["InputDataConfig"]]

    assert channels("s3://photos/dogs/") == ["train", "valid", "test"]
    assert channels("s3://photos/cats") == ["training"]
    store = S3Store(aws("s3"), "photos", "", REGION)
    assert store.files("s3://photos/dogs")[0] == "test/a/3.jpg"
    assert store.files("s3://photos")[0] == "cats/b/1.jpg"
    with pytest.raises(UserError, match="is not in S3"):
        store.fetch("https://elsewhere")


def test_the_folders_that_become_channels_are_those_that_a_job_takes_for_its_splits() -> None:
    assert set(dataset.SPLITS) == job_dataset._ANY_SPLIT


def test_a_folder_is_read_once_and_again_when_a_file_of_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph = tmp_path / "photos/owl/1.jpg"
    photograph.parent.mkdir(parents=True)
    photograph.write_bytes(b"one")
    reads: list[Path] = []
    read = Path.open

    def counted(path: Path, mode: str) -> Any:
        reads.append(path)
        return read(path, mode)

    monkeypatch.setattr(Path, "open", counted)
    store = S3Store(None, "photos", "", REGION)
    address = store.locate(tmp_path / "photos")
    assert store.locate(tmp_path / "photos") == address
    assert reads == [photograph]
    photograph.touch()
    assert store.locate(tmp_path / "photos") == address, "the content names it, not the time"
    assert reads == [photograph] * 2
    os.truncate(photograph, 0)
    assert store.locate(tmp_path / "photos") != address


@pytest.mark.parametrize(
    ("data", "addresses"),
    [
        ("s3://photos/dogs", ["s3://photos/dogs/test/", "s3://photos/dogs/train/"]),
        ("s3://photos/cats", ["s3://photos/cats/"]),
        ("s3://photos/cats/", ["s3://photos/cats/"]),
        ("s3://photos/cats.tar.gz", ["s3://photos/cats.tar.gz"]),
    ],
)
def test_a_folder_is_not_taken_for_those_whose_names_begin_with_its_own(
    cloud: Workspace, data: str, addresses: list[str]
) -> None:
    aws("s3").create_bucket(
        Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    for key in ("dogs/train/a/1.jpg", "dogs/test/a/2.jpg", "dogs/test_masks/a/2.jpg"):
        aws("s3").put_object(Bucket="photos", Key=key, Body=b"")
    for command in ("train", "tune"):
        given = cloud.run(
            *(command, "--data", data, "--pretrained", "s3://photos/own.pth", "--dry-run")
        ).json["requests"][0]["request"]
        channels = given.get("TrainingJobDefinition", given)["InputDataConfig"]
        sources = {entry["ChannelName"]: entry["DataSource"] for entry in channels}
        assert sources.pop("pretrained")["S3DataSource"]["S3Uri"] == "s3://photos/own.pth"
        assert sorted(source["S3DataSource"]["S3Uri"] for source in sources.values()) == addresses


@pytest.mark.parametrize(
    ("data", "selected"),
    [("s3://photos/new", "s3://photos/new/"), ("s3://photos/new.tar", "s3://photos/new.tar")],
)
def test_a_transform_takes_the_whole_name_of_its_folder(
    cloud: Workspace, data: str, selected: str
) -> None:
    shown = cloud.run("transform", data, "--model", "s3://photos/model.tar.gz", "--dry-run").json
    source = shown["requests"][1]["request"]["TransformInput"]["DataSource"]["S3DataSource"]
    assert source["S3Uri"] == selected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image", "kennel:latest"], "SageMaker takes images from Amazon ECR"),
        (
            ["--image", "123456789012.dkr.ecr.us-east-1.amazonaws.com/kennel:1"],
            "The image is in us-east-1 and the jobs are in eu-west-1; push it there.",
        ),
        (["--role", "arn:aws:iam::1:role/x"], "CreateTrainingJob.RoleArn must match"),
        (
            ["--instance-type", "ml.g5.xlrge"],
            "cannot be 'ml.g5.xlrge'; did you mean 'ml.g5.xlarge'",
        ),
        (["--aws-profile", "nobody"], "The config profile (nobody) could not be found"),
    ],
)
def test_what_sagemaker_would_refuse_is_refused_before_anything_is_uploaded(
    cloud: Workspace, arguments: list[str], sentence: str
) -> None:
    answer = cloud.run("train", "--data", cloud.data, *arguments)
    assert answer.code == 1
    assert sentence in answer.stderr
    assert aws("s3").list_buckets()["Buckets"] == []


def test_no_region_and_no_role_are_said_to_be_missing(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KENNEL_ROLE")
    assert "SageMaker needs a role" in cloud.run("train", "--data", cloud.data).stderr
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "There is no AWS region" in cloud.run("status").stderr


def test_a_dry_run_that_was_told_everything_needs_no_account(workspace: Workspace) -> None:
    answer = workspace.run(
        *("train", "--on", "sagemaker", "--data", workspace.data, "--dry-run", "--role", ROLE),
        *("--region", REGION, "--bucket", "photos", "--image", IMAGE),
    )
    assert answer.code == 0, answer.stderr
    assert answer.json["paid_by_the_hour"][0]["instances"] == 1
    unnamed = workspace.run(
        *("train", "--on", "sagemaker", "--data", workspace.data, "--dry-run", "--role", ROLE),
        *("--region", REGION, "--bucket", "photos"),
    )
    assert "with --bucket and --image a --dry-run needs none" in unnamed.stderr
    without = workspace.run("status", "--on", "sagemaker", "--region", REGION)
    assert "There are no AWS credentials" in without.stderr


def test_push_runs_the_script_and_later_commands_use_what_it_made(
    cloud: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "build_and_push.sh"
    pushed = IMAGE.replace("latest", "v2")
    script.write_text(f'echo "$@" > {tmp_path}/arguments; echo noise; echo {pushed}\n')
    monkeypatch.setattr(image.push, "__kwdefaults__", {"script": script})
    answer = cloud.run("push", "--tag", "v2", "--json")
    assert answer.json == {"image": pushed}
    assert (tmp_path / "arguments").read_text().split() == [
        *("--name", "kennel", "--tag", "v2", "--region", REGION)
    ]
    shown = cloud.run("train", "--data", cloud.data, "--dry-run").json["requests"][0]["request"]
    assert shown["AlgorithmSpecification"]["TrainingImage"] == pushed
    script.write_text("echo no docker >&2; exit 3\n")
    assert "build_and_push.sh ended with exit code 3" in cloud.run("push").stderr


def test_a_push_takes_the_place_of_an_image_that_was_named_before(
    cloud: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def image_used(*given: str) -> str:
        shown = cloud.run("train", "--data", cloud.data, *given, "--dry-run").json
        return str(shown["requests"][0]["request"]["AlgorithmSpecification"]["TrainingImage"])

    script = tmp_path / "build_and_push.sh"
    named, pushed = (IMAGE.replace("latest", tag) for tag in ("named", "pushed"))
    monkeypatch.setattr(image.push, "__kwdefaults__", {"script": script})
    cloud.run("upload", "--data", cloud.data, "--image", named)
    assert image_used() == named
    script.write_text(f"echo {pushed}\n")
    assert cloud.run("push").code == 0
    assert image_used() == pushed
    # Each backend has its own.
    script.write_text("echo kennel:mine\n")
    assert cloud.run("push", "--on", "docker").code == 0
    monkeypatch.delenv("KENNEL_ON")
    assert image_used() == "kennel:mine"
    cloud.run("upload", "--image", "kennel:other")
    assert image_used() == "kennel:other"
    assert image_used("--on", "sagemaker") == pushed
    # What stands in the environment or in kennel.toml is named on purpose, each time.
    monkeypatch.setenv("KENNEL_IMAGE", "kennel:always")
    assert "Commands go on using kennel:always" in cloud.run("push").stdout
    assert image_used() == "kennel:always"


def test_push_works_as_the_profile_that_was_chosen(
    cloud: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    answers = {
        "docker": 'case "$*" in version*) echo amd64 ;; login*) cat >/dev/null ;; esac',
        "aws": 'echo "$AWS_DEFAULT_PROFILE$AWS_PROFILE ${AWS_ACCESS_KEY_ID-no keys} $1 $2" '
        f">>{tmp_path}/asked\n"
        'case "$*" in "sts get-caller-identity"*) echo 123456789012 ;; esac',
    }
    for name, body in answers.items():
        (commands / name).write_text(f"#!/bin/bash\n{body}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    configuration = tmp_path / "aws-config"
    keys = "aws_access_key_id = x\naws_secret_access_key = x\n"
    configuration.write_text(f"[profile work]\nregion = {REGION}\n{keys}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("AWS_DEFAULT_PROFILE", "another")

    answer = cloud.run("push", "--aws-profile", "work", "--json")
    assert answer.code == 0, answer.stderr
    assert answer.json == {"image": IMAGE}
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "work no keys sts get-caller-identity" in asked
    assert "work no keys ecr get-login-password" in asked
    assert {line.split()[0] for line in asked} == {"work"}
    monkeypatch.delenv("AWS_DEFAULT_PROFILE")
    (cloud.path / ".kennel/state.json").unlink()
    (tmp_path / "asked").unlink()
    assert cloud.run("push").code == 0
    assert " testing sts get-caller-identity" in (tmp_path / "asked").read_text().splitlines()


def refused(code: str, message: str = "said so", operation: str = "CreateModel") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (refused("ExpiredTokenException"), "credentials have expired or are not valid"),
        (refused("ThrottlingException"), "wait a minute and repeat"),
        (refused("AccessDeniedException"), "AWS does not allow this (CreateModel: said so)"),
        (refused("ResourceLimitExceeded"), "Ask for more in Service Quotas"),
        (refused("ValidationException"), "CreateModel: said so"),
        (refused("Strange"), "CreateModel: said so (Strange)"),
        (NoCredentialsError(), "There are no AWS credentials"),
        (UnauthorizedSSOTokenError(), "The AWS log-in has expired"),
    ],
)
def test_awss_errors_are_sentences(error: Any, sentence: str) -> None:
    assert sentence in refusals.sentence(error)


def test_a_request_that_was_sent_twice_has_done_its_work(workspace: Workspace) -> None:
    settings, memory = Settings(), Memory.of(workspace.path)
    backend = backends.connect(settings, workspace.path, memory)
    session = Session(settings, backend, memory, Console(as_json=False), workspace.path)

    def create(name: str) -> dict[str, Any]:
        request = endpoint.model_request(
            settings, name, role=ROLE, image=IMAGE, artifact="file:///", environment={}
        )
        return session.send(Call("sagemaker", "CreateModel", request))

    own = names.unique("kennel", "model")
    assert create(own)["ModelArn"].endswith(own)
    assert create(own) == {}
    create("kennel")
    with pytest.raises(ClientError, match="already exists"):
        create("kennel")


def tuning(**config: Any) -> Call:
    request = {
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"MetricName": "validation:loss"},
            "ParameterRanges": {},
            "TrainingJobEarlyStoppingType": "Auto",
            **config,
        },
        "TrainingJobDefinition": {
            "AlgorithmSpecification": {"MetricDefinitions": [{"Name": "validation:loss"}]},
            "StoppingCondition": {"MaxRuntimeInSeconds": 100},
        },
    }
    return Call("sagemaker", "CreateHyperParameterTuningJob", request)


def training(**members: Any) -> Call:
    given = {"StoppingCondition": {"MaxRuntimeInSeconds": 100}, "ResourceConfig": {}}
    return Call("sagemaker", "CreateTrainingJob", {**given, **members})


def variant(**members: Any) -> Call:
    request = {"ProductionVariants": [members]}
    return Call("sagemaker", "CreateEndpointConfig", request)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (training(HyperParameters={"x": "y" * 257}), "x has 257 characters"),
        (training(HyperParameters={str(n): "1" for n in range(101)}), "there may be 100"),
        (training(EnableManagedSpotTraining=True), "spot training needs MaxWaitTimeInSeconds"),
        (
            training(StoppingCondition={"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 99}),
            "less than the 100 it may run",
        ),
        (tuning(Strategy="Hyperband"), "Hyperband stops trials early by itself"),
        (tuning(Strategy="Grid"), "Grid takes lists of values only"),
        (
            tuning(HyperParameterTuningJobObjective={"MetricName": "x"}),
            "the objective x is none of the metrics",
        ),
        (
            variant(ServerlessConfig={"MemorySizeInMB": 1000, "MaxConcurrency": 1}),
            "serverless memory is one of 1024",
        ),
        (
            Call(
                "sagemaker",
                "CreateTransformJob",
                {"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3},
            ),
            "may be 100, got 150",
        ),
    ],
)
def test_limits_that_join_several_members(call: Call, sentence: str) -> None:
    with pytest.raises(UserError, match="would be refused") as refusal:
        limits.check(call)
    assert sentence in str(refusal.value)


def test_the_script_that_pushes_is_there() -> None:
    assert image.SCRIPT.is_file()


def test_a_connection_that_is_lost_leaves_the_job_and_says_so(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(session: Session, name: str) -> dict[str, Any]:
        raise EndpointConnectionError(endpoint_url="https://api.sagemaker")

    monkeypatch.setattr("launcher.training.watch", lost)
    answer = cloud.run("train", "--data", cloud.data, "--set", *TINY)
    assert answer.code == 1
    assert "Could not connect to the endpoint URL" in answer.stderr
    assert "What was started goes on: `./launch.py status` shows it" in answer.stderr
    assert len(aws("sagemaker").list_training_jobs()["TrainingJobSummaries"]) == 1
    assert "There is no job yet" not in cloud.run("logs").stderr
