"""`doctor`: what is well, what is not and how to mend it, and what it could not look at."""

import json
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from launcher_workspace import REGION, ROLE, Workspace, aws

from container.errors import UserError
from launcher import policies, quotas
from launcher.quotas import Quotas
from launcher.settings import Settings

pytest_plugins = ("launcher_fixtures", "launcher_moto")

ACCOUNT = ROLE.split(":")[4]
TRAINING, ENDPOINT, TRANSFORM = quotas.uses(Settings())


def test_doctor_finds_what_is_missing_and_what_to_do(cloud: Workspace) -> None:
    answer = cloud.run("doctor")
    assert answer.code == 1
    assert "FAULT  role: There is no role" in answer.stdout
    assert "FAULT  image:" in answer.stdout
    assert "run `./launch.py push`" in answer.stdout
    iam = aws("iam")
    iam.create_role(
        RoleName="kennel", AssumeRolePolicyDocument=json.dumps(policies.trust("lambda"))
    )
    assert "does not let SageMaker work as it" in cloud.run("doctor").stdout
    iam.delete_role(RoleName="kennel")
    trust = json.dumps(policies.trust("sagemaker"))
    iam.create_role(RoleName="kennel", AssumeRolePolicyDocument=trust)
    findings = {entry["what"]: entry for entry in cloud.run("doctor", "--json").json["findings"]}
    assert findings["role"]["well"]
    assert findings["credentials"]["says"].startswith(f"account {ACCOUNT}")
    shown = cloud.run("doctor", "--policies").json
    assert set(shown) >= {"you", "the role", "the role's trust"}


@pytest.mark.parametrize("region", [(), ("--region", REGION)])
def test_each_look_says_for_itself_that_nobody_is_logged_in(
    workspace: Workspace, region: tuple[str, ...]
) -> None:
    answer = workspace.run("doctor", "--on", "sagemaker", "--role", ROLE, *region, "--json")
    assert answer.code == 1
    findings = {entry["what"]: entry for entry in answer.json["findings"]}
    assert findings["Python"]["well"]
    assert findings["region"]["well"] is bool(region)
    missing = "There are no AWS credentials" if region else "There is no AWS region"
    for what in ("credentials", "role", "image", "quota for training", "quota for endpoints"):
        assert findings[what]["well"] is False
        assert missing in findings[what]["says"]


def test_an_image_may_be_named_by_its_digest(cloud: Workspace) -> None:
    ecr = aws("ecr")
    ecr.create_repository(repositoryName="mine/kennel")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    }
    put = ecr.put_image(
        repositoryName="mine/kennel", imageManifest=json.dumps(manifest), imageTag="v1"
    )
    digest = put["image"]["imageId"]["imageDigest"]
    place = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mine/kennel"
    for name, there in {
        f"{place}@{digest}": True,
        f"{place}:v1@{digest}": True,
        f"{place}:v1": True,
        f"{place}@sha256:{'0' * 64}": False,
    }.items():
        findings = {
            entry["what"]: entry
            for entry in cloud.run("doctor", "--image", name, "--json").json["findings"]
        }
        assert findings["image"]["well"] is there, findings["image"]


def test_doctor_on_this_machine(workspace: Workspace) -> None:
    answer = workspace.run("doctor")
    assert answer.code == 0, answer.stdout
    assert "well   packages" in answer.stdout


def test_what_may_not_be_looked_at_is_no_fault(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, operation: str, given: object) -> dict[str, str]:
        if operation == "GetCallerIdentity":  # which is never refused
            return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me"}
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", refuse)
    monkeypatch.setenv("DOCKER", "no-such-docker")
    image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/kennel:latest"
    answer = cloud.run("doctor", "--image", image)
    assert answer.code == 0, answer.stdout
    assert "?      role: AWS does not allow this (GetRole: no)" in answer.stdout
    assert "?      quota for endpoints: AWS does not allow" in answer.stdout
    assert "?      Docker, for push: The docker command is missing" in answer.stdout


def quota(name: str, value: float) -> dict[str, Any]:
    return {
        "QuotaName": name,
        "Value": value,
        "QuotaCode": "L-3F53BF0F",
        "ServiceCode": "sagemaker",
    }


def asked(*answers: tuple[str, dict[str, Any]]) -> tuple[Quotas, Stubber]:
    """Quotas of an account that answers so; botocore checks requests and answers."""
    client = boto3.client(
        "service-quotas", region_name=REGION, config=Config(signature_version=UNSIGNED)
    )
    stub = Stubber(client)
    for operation, answer in answers:
        given = {"ServiceCode": "sagemaker"}
        if operation.endswith("+"):
            given["NextToken"] = "more"
        stub.add_response(operation.rstrip("+"), answer, given)
    stub.activate()
    return Quotas(client, REGION, (TRAINING, ENDPOINT, TRANSFORM)), stub


def test_quotas_are_found_on_any_page_and_among_the_defaults() -> None:
    found, stub = asked(
        ("list_service_quotas", {"Quotas": [quota("other", 9)], "NextToken": "more"}),
        ("list_service_quotas+", {"Quotas": [quota(TRAINING.quota, 2), quota(ENDPOINT.quota, 0)]}),
        ("list_aws_default_service_quotas", {"Quotas": [quota(ENDPOINT.quota, 5)]}),
    )
    assert found.says(TRAINING) == "2 of ml.g4dn.xlarge at a time"
    # What the account has counts, not what accounts begin with.
    with pytest.raises(UserError, match=r"--quota-code L-3F53BF0F --desired-value 1 --region"):
        found.says(ENDPOINT)
    with pytest.raises(LookupError, match=r"no 'ml\.m5\.large for transform job usage' in eu"):
        found.says(TRANSFORM)
    stub.assert_no_pending_responses()


def test_a_quota_of_nothing_is_a_fault_and_none_at_all_is_not(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = asked(
        ("list_service_quotas", {"Quotas": [quota(TRAINING.quota, 0), quota(ENDPOINT.quota, 1)]}),
        ("list_aws_default_service_quotas", {"Quotas": []}),
    )
    monkeypatch.setattr("launcher.diagnosis.Quotas", lambda *_: found)
    findings = {entry["what"]: entry for entry in cloud.run("doctor", "--json").json["findings"]}
    assert findings["quota for training"]["well"] is False
    assert findings["quota for endpoints"]["well"] is True
    assert findings["quota for transform"]["well"] is None
