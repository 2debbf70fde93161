"""Throttling, lost answers, expired credentials, and work that was left half done."""

import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session
from launcher_workspace import TINY, Workspace, aws

from launcher import training
from launcher.aws import RETRIES
from launcher.session import Session

pytest_plugins = ("launcher_fixtures", "launcher_moto")

Send = Callable[[AWSPreparedRequest], AWSResponse]
Fault = Callable[[AWSPreparedRequest, Send], AWSResponse]
Break = Callable[[str, int, Fault], list[str]]


@pytest.fixture
def breaks(cloud: Workspace, monkeypatch: pytest.MonkeyPatch) -> Break:
    """Puts a fault on the first so many requests of an operation; its list counts them all."""
    whole = URLLib3Session.send

    def put(operation: str, times: int, fault: Fault) -> list[str]:
        seen: list[str] = []

        def send(self: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
            target = request.headers.get("X-Amz-Target", b"")
            target = target.decode() if isinstance(target, bytes) else target
            if target.rpartition(".")[2] != operation:
                return whole(self, request)
            seen.append(operation)
            if len(seen) > times:
                return whole(self, request)
            return fault(request, lambda given: whole(self, given))

        monkeypatch.setattr(URLLib3Session, "send", send)
        return seen

    monkeypatch.setattr("launcher.aws.RETRIES", RETRIES)
    patient = SimpleNamespace(sleep=lambda seconds: None, time=time.time)
    monkeypatch.setattr("botocore.endpoint.time", patient)
    return put


def refusal(code: str) -> Fault:
    """AWS's answer to a request that it does not carry out."""

    class Body:
        def stream(self) -> list[bytes]:
            return [json.dumps({"__type": code, "message": "said so"}).encode()]

    def fault(request: AWSPreparedRequest, send: Send) -> AWSResponse:
        return AWSResponse(request.url, 400, {}, Body())

    return fault


def lost(request: AWSPreparedRequest, send: Send) -> AWSResponse:
    """AWS does what it was asked, and its answer does not come back."""
    send(request)
    raise ConnectionClosedError(endpoint_url=request.url)


def jobs() -> list[Any]:
    found: list[Any] = aws("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    return found


def test_throttling_is_waited_for(cloud: Workspace, breaks: Break) -> None:
    seen = breaks("CreateTrainingJob", 3, refusal("ThrottlingException"))
    answer = cloud.run("train", "--data", cloud.data, "--set", *TINY)
    assert answer.code == 0, answer.stderr
    assert len(seen) == 4
    assert len(jobs()) == 1


def test_a_lost_answer_makes_nothing_twice(cloud: Workspace, breaks: Break) -> None:
    seen = breaks("CreateTrainingJob", 1, lost)
    answer = cloud.run("train", "--data", cloud.data, "--set", *TINY)
    assert answer.code == 0, answer.stderr
    assert len(seen) == 2
    assert len(jobs()) == 1


def test_credentials_that_expire_end_the_command_and_not_the_job(
    cloud: Workspace, breaks: Break
) -> None:
    breaks("DescribeTrainingJob", 1, refusal("ExpiredTokenException"))
    answer = cloud.run("train", "--data", cloud.data, "--set", *TINY)
    assert answer.code == 1
    assert "credentials have expired" in answer.stderr
    assert "What was started goes on" in answer.stderr
    # Logged in again, the job is found and followed to its end.
    followed = cloud.run("logs", "--follow")
    assert followed.code == 0
    assert "completed after" in followed.stdout
    assert len(jobs()) == 1


def test_half_a_deployment_is_found_and_deleted(cloud: Workspace, breaks: Break) -> None:
    cloud.run("train", "--data", cloud.data, "--set", *TINY)
    breaks("CreateEndpoint", 1, refusal("ResourceLimitExceeded"))
    answer = cloud.run("deploy")
    assert answer.code == 1
    assert "Ask for more in Service Quotas" in answer.stderr
    client = aws("sagemaker")
    assert client.list_endpoint_configs()["EndpointConfigs"]
    assert cloud.run("delete", "--yes").code == 0
    assert client.list_endpoint_configs()["EndpointConfigs"] == []
    assert client.list_models()["Models"] == []


def test_a_launcher_killed_before_it_could_remember_leaves_nothing_unknown(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Session, **names: str | None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as only_now:
        only_now.setattr(Session, "remember", killed)
        answer = cloud.run("train", "--data", cloud.data, "--set", *TINY)
    assert answer.code == 130
    (job,) = jobs()
    assert job["TrainingJobName"] in cloud.run("status").stdout


def described(monkeypatch: pytest.MonkeyPatch, *states: dict[str, str]) -> None:
    """Let SageMaker say these things of a training job, one after the other."""
    left = list(states)
    whole = training.describe

    def describe(session: Session, name: str) -> dict[str, Any]:
        return {**whole(session, name), **(left.pop(0) if len(left) > 1 else left[0])}

    monkeypatch.setattr(training, "describe", describe)


def test_a_job_that_never_starts_is_said_to_be_late(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LONG_START_SECONDS", 0.1)
    pending = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Pending"}
    over = {"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"}
    described(monkeypatch, *(8 * [pending]), over)
    answer = cloud.run("train", "--data", cloud.data, "--set", *TINY)
    assert answer.stdout.count("no machine of this kind may be free") == 1
    assert "`./launch.py delete` stops it" in answer.stdout


def test_a_job_that_fails_says_why_and_what_to_try(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "CapacityError: Unable to provision requested ML compute capacity."
    failed = {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}
    described(monkeypatch, failed)
    answer = cloud.run("train", "--data", cloud.data, "--set", *TINY)
    assert answer.code == 1
    assert f"failed: {reason} Try again later, or another --instance-type." in answer.stderr
