import base64
import importlib.util
import io
import json
import subprocess
import zipfile
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ClientError
from launcher_workspace import REGION, ROLE, TINY, Workspace, aws

from container.errors import UserError
from launcher import api, clarify, debugger, endpoint, front, names, policies, transform
from launcher.inventory import Entry
from launcher.session import Session
from launcher.settings import Settings

pytest_plugins = ("launcher_fixtures", "launcher_moto")

ACCOUNT = "123456789012"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/kennel:latest"


def allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    """What IAM decides for a policy of Allow statements, conditions left aside."""
    return any(
        any(fnmatchcase(action, pattern) for pattern in statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        for statement in policy["Statement"]
    )


def arn(kind: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}"


def test_the_lambda_may_invoke_one_endpoint_and_write_its_own_log_only() -> None:
    policy = policies.front(REGION, ACCOUNT, "kennel-front", "kennel")
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda"
    assert allows(policy, "sagemaker:InvokeEndpoint", arn("endpoint/kennel"))
    assert allows(policy, "logs:PutLogEvents", f"{group}/kennel-front:log-stream:x")
    for action, resource in [
        ("sagemaker:InvokeEndpoint", arn("endpoint/kennel2")),
        ("sagemaker:InvokeEndpoint", arn("endpoint/other")),
        ("sagemaker:DeleteEndpoint", arn("endpoint/kennel")),
        ("sagemaker:CreateTrainingJob", arn("training-job/x")),
        ("logs:PutLogEvents", f"{group}/another:log-stream:x"),
        ("logs:CreateLogGroup", f"{group}/kennel-front:x"),
        ("s3:GetObject", "arn:aws:s3:::bucket/key"),
        ("iam:PassRole", ROLE),
    ]:
        assert not allows(policy, action, resource), (action, resource)


def test_the_role_reads_and_writes_its_own_place_only() -> None:
    policy = policies.worker("photos", "kennel", REGION, ACCOUNT)
    alarm = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"
    assert allows(policy, "cloudwatch:DescribeAlarms", alarm), "for deploy --rollback-alarm"
    assert allows(policy, "s3:PutObject", "arn:aws:s3:::photos/kennel/training/x/model.tar.gz")
    assert not allows(policy, "s3:GetObject", "arn:aws:s3:::photos/other/x")
    assert not allows(policy, "s3:DeleteObject", "arn:aws:s3:::photos/kennel/data/x")
    assert not allows(policy, "sagemaker:CreateTrainingJob", arn("training-job/kennel-x"))
    assert not allows(policy, "iam:PassRole", ROLE)


def test_the_person_may_touch_what_is_named_for_the_project_only() -> None:
    policy = policies.person("photos", "kennel", REGION, ACCOUNT, ROLE, "kennel")
    assert allows(policy, "sagemaker:CreateTrainingJob", arn("training-job/kennel-train-1"))
    assert allows(policy, "sagemaker:InvokeEndpoint", arn("endpoint/kennel"))
    assert allows(policy, "iam:PassRole", ROLE)
    assert not allows(policy, "sagemaker:DeleteEndpoint", arn("endpoint/production"))
    assert not allows(policy, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin")
    assert not allows(policy, "iam:CreateRole", ROLE)
    assert not allows(policy, "s3:DeleteObject", "arn:aws:s3:::photos/kennel/data/x")


def test_the_person_may_touch_tunings_whose_names_have_room_for_a_part_of_the_project() -> None:
    project = "photographs-of-dogs"
    policy = policies.person("photos", "kennel", REGION, ACCOUNT, ROLE, project)
    tuning = names.unique(project, "tuning")
    assert len(tuning) == 32
    assert allows(
        policy, "sagemaker:StopHyperParameterTuningJob", arn(f"hyper-parameter-tuning-job/{tuning}")
    )
    assert allows(policy, "sagemaker:DescribeTrainingJob", arn(f"training-job/{tuning}-001-ab"))
    assert not allows(policy, "sagemaker:DeleteEndpoint", arn("endpoint/photogra"))


@pytest.mark.parametrize(
    ("region", "start"), [("cn-north-1", "arn:aws-cn:"), ("us-gov-west-1", "arn:aws-us-gov:")]
)
def test_policies_name_things_as_their_region_does(region: str, start: str) -> None:
    every = policies.all_of(bucket="b", prefix="p", region=region, role=ROLE, project="kennel")
    every["front"] = policies.front(region, ACCOUNT, "kennel-front", "kennel")
    for name, policy in every.items():
        for statement in policy["Statement"]:
            for resource in statement.get("Resource", []):
                assert resource in ("*", ROLE) or resource.startswith(start), (name, resource)


def every_action(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_every_action_is_an_operation_that_there_is() -> None:
    actions = {
        action
        for policy in (
            policies.person("b", "p", REGION, ACCOUNT, ROLE, "kennel"),
            policies.scaling_and_front(REGION, ACCOUNT, "kennel"),
            policies.pushing(REGION, ACCOUNT),
        )
        for action in every_action(policy)
    }
    for action in actions:
        service, _, operation = action.partition(":")
        if service == "sagemaker":
            invokes = operation.startswith("Invoke")
            service = "sagemaker-runtime" if invokes else "sagemaker"
            assert operation in api.service_model(service).operation_names
        assert "*" not in action


def deployed(cloud: Workspace) -> None:
    answer = cloud.run("deploy", "--model", "s3://photos/model.tar.gz")
    assert answer.code == 0, answer.stderr


def test_autoscale_registers_and_delete_forgets(cloud: Workspace) -> None:
    assert "There is no endpoint yet" in cloud.run("autoscale").stderr
    deployed(cloud)
    answer = cloud.run("autoscale", "--json")
    assert answer.code == 0, answer.stderr
    client = aws("application-autoscaling")
    (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert target["ResourceId"] == "endpoint/kennel/variant/AllTraffic"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
    (policy,) = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 10
    metric = tracking["PredefinedMetricSpecification"]["PredefinedMetricType"]
    assert metric == "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    assert (tracking["ScaleOutCooldown"], tracking["ScaleInCooldown"]) == (30, 120)
    assert "--min must be from 1 to --max" in cloud.run("autoscale", "--min", "4").stderr
    assert "must be above 0" in cloud.run("autoscale", "--concurrent", "0").stderr
    assert cloud.run("autoscale", "--invocations", "6000").code == 0
    (policy,) = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 6000
    shown = cloud.run("deploy", "--model", "s3://photos/model.tar.gz", "--dry-run").json
    assert shown["requests"][2]["request"]["RetainAllVariantProperties"] is True
    assert cloud.run("delete", "--yes").code == 0
    left = client.describe_scalable_targets(ServiceNamespace="sagemaker")
    assert left["ScalableTargets"] == []


def test_front_makes_a_lambda_and_delete_removes_it(cloud: Workspace) -> None:
    deployed(cloud)
    made = cloud.run("front", "--json")
    assert made.code == 0, made.stderr
    assert made.json["url"].startswith("https://")
    function = aws("lambda").get_function(FunctionName="kennel-front")["Configuration"]
    assert function["Environment"]["Variables"] == {"ENDPOINT_NAME": "kennel"}
    assert function["Role"] == f"arn:aws:iam::{ACCOUNT}:role/kennel-front"
    url = aws("lambda").get_function_url_config(FunctionName="kennel-front", Qualifier="live")
    assert url["AuthType"] == "AWS_IAM"
    iam = aws("iam")
    found = iam.get_role_policy(RoleName="kennel-front", PolicyName="kennel-front")
    assert found["PolicyDocument"] == policies.front(REGION, ACCOUNT, "kennel-front", "kennel")
    again = cloud.run("front", "--json")
    assert again.json["url"] == made.json["url"]
    assert "There is the Lambda kennel-front." in cloud.run("status").stdout
    other = cloud.run("front", "--endpoint", "kennel-other")
    assert "stands before the endpoint kennel; delete it first" in other.stderr
    kept = iam.get_role_policy(RoleName="kennel-front", PolicyName="kennel-front")
    assert kept["PolicyDocument"] == found["PolicyDocument"], "a refusal changes nothing"

    assert cloud.run("delete", "--yes").code == 0
    assert aws("lambda").list_functions()["Functions"] == []
    assert iam.list_roles()["Roles"] == []
    assert aws("logs").describe_log_groups()["logGroups"] == []


def test_a_front_is_made_again_after_it_was_deleted(cloud: Workspace) -> None:
    deployed(cloud)
    assert cloud.run("front").code == 0
    # Lambda never uses a version's number again; moto begins anew, so one is published here.
    function = aws("lambda")
    function.delete_alias(FunctionName="kennel-front", Name="live")
    function.update_function_code(FunctionName="kennel-front", ZipFile=other_code())
    second = function.publish_version(FunctionName="kennel-front")["Version"]
    assert second == "2"
    made = cloud.run("front")
    assert made.code == 0, made.stderr
    alias = function.get_alias(FunctionName="kennel-front", Name="live")
    assert alias["FunctionVersion"] != "1"


def test_a_role_of_the_front_s_name_that_somebody_else_made_is_left_alone(
    cloud: Workspace,
) -> None:
    deployed(cloud)
    trust = json.dumps(policies.trust("lambda"))
    aws("iam").create_role(RoleName="kennel-front", AssumeRolePolicyDocument=trust)
    refused = cloud.run("front")
    assert "a role kennel-front that was not made for this project" in refused.stderr
    assert aws("iam").list_role_policies(RoleName="kennel-front")["PolicyNames"] == []


def test_front_and_autoscale_are_told_what_kind_of_endpoint_it_is(cloud: Workspace) -> None:
    given = ("deploy", "--model", "s3://photos/model.tar.gz")
    aws("s3").create_bucket(
        Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    assert cloud.run(*given, "--async", "--bucket", "photos").code == 0
    assert "kennel is asynchronous; front passes images on to" in cloud.run("front").stderr
    assert aws("iam").list_roles()["Roles"] == []
    assert "take --concurrent" in cloud.run("autoscale", "--invocations", "60").stderr
    shown = cloud.run("autoscale", "--concurrent", "5", "--dry-run").json["requests"][1]["request"]
    tracking = shown["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 5
    metric = tracking["CustomizedMetricSpecification"]
    assert metric["MetricName"] == "ApproximateBacklogSizePerInstance"
    assert metric["Dimensions"] == [{"Name": "EndpointName", "Value": "kennel"}]
    assert cloud.run(*given, "--serverless", "--project", "small").code == 0
    refused = cloud.run("autoscale", "--endpoint", "small")
    assert "small is serverless, which does not scale by its machines" in refused.stderr


def test_what_may_not_be_looked_at_keeps_nothing_from_being_deleted(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(cloud)

    def denied(session: Session) -> None:
        error: Any = {"Error": {"Code": "AccessDeniedException", "Message": "not yours"}}
        raise ClientError(error, "GetFunction")

    monkeypatch.setattr(front, "_function_tags", denied)
    status = cloud.run("status")
    assert status.code == 0
    assert "Whether there is a front cannot be seen. AWS does not allow this" in status.stdout
    assert cloud.run("delete", "--yes").code == 0
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []


def other_code() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("front_handler.py", "def handler(event, context): ...")
    return content.getvalue()


def test_status_and_delete_need_no_more_than_the_person_s_own_policy(
    cloud: Workspace, asked: set[str]
) -> None:
    deployed(cloud)
    somebody_elses = {"ModelName": "a-kennel-of-others", "PrimaryContainer": {"Image": IMAGE}}
    aws("sagemaker").create_model(**somebody_elses, ExecutionRoleArn=ROLE)
    asked.clear()
    assert cloud.run("status").code == 0
    assert cloud.run("delete", "--yes").code == 0
    allowed = every_action(policies.person("b", "p", REGION, ACCOUNT, ROLE, "kennel"))
    assert asked <= allowed | {"sts:GetCallerIdentity"}


def test_delete_goes_on_where_one_thing_cannot_be_deleted(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(cloud)
    assert cloud.run("front").code == 0
    aws("iam").delete_role_policy(RoleName="kennel-front", PolicyName="kennel-front")
    end = Entry.end

    def refuse(entry: Entry, client: Any) -> None:
        if entry.kind.title == "endpoint configuration":
            error: Any = {"Error": {"Code": "AccessDeniedException", "Message": "not yours"}}
            raise ClientError(error, "DeleteEndpointConfig")
        end(entry, client)

    with monkeypatch.context() as patched:
        patched.setattr(Entry, "end", refuse)
        answer = cloud.run("delete", "--yes")
    assert answer.code == 1
    assert "1 of " in answer.stderr
    assert "not yours" in answer.stderr
    assert aws("lambda").list_functions()["Functions"] == []
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []
    assert aws("sagemaker").list_models()["Models"] == []
    assert cloud.run("delete", "--yes").code == 0
    assert aws("sagemaker").list_endpoint_configs()["EndpointConfigs"] == []


def test_what_an_endpoint_is_made_of_stays_as_long_as_it_cannot_be_deleted(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(cloud)
    end = Entry.end

    def refuse(entry: Entry, client: Any) -> None:
        if entry.kind.title == "endpoint":
            error: Any = {"Error": {"Code": "AccessDeniedException", "Message": "not yours"}}
            raise ClientError(error, "DeleteEndpoint")
        end(entry, client)

    aws("sagemaker").create_model(
        ModelName="kennel-another",
        PrimaryContainer={"Image": IMAGE},
        ExecutionRoleArn=ROLE,
        Tags=names.tags("kennel"),
    )
    with monkeypatch.context() as patched:
        patched.setattr(Entry, "end", refuse)
        answer = cloud.run("delete", "--yes")
    assert answer.code == 1
    assert "3 of 4 could not be deleted" in answer.stderr
    assert "it stays as long as the endpoint kennel does" in answer.stderr
    assert len(aws("sagemaker").list_endpoint_configs()["EndpointConfigs"]) == 1
    (model,) = aws("sagemaker").list_models()["Models"]
    assert model["ModelName"] != "kennel-another"
    again = cloud.run("delete", "--endpoint", "--yes", "--json")
    assert again.code == 0, again.stderr
    assert len(again.json["deleted"]) == 3, "its name is not forgotten"
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []


def test_delete_of_one_endpoint_leaves_jobs_and_other_models(cloud: Workspace) -> None:
    assert cloud.run("train", "--data", cloud.data, "--set", *TINY, "--no-wait").code == 0
    deployed(cloud)
    aws("sagemaker").create_model(
        ModelName="kennel-another",
        PrimaryContainer={"Image": IMAGE},
        ExecutionRoleArn=ROLE,
        Tags=names.tags("kennel"),
    )
    answer = cloud.run("delete", "--endpoint", "--yes", "--json")
    assert answer.code == 0, answer.stderr
    assert [what.rpartition(" ")[0] for what in answer.json["deleted"]] == [
        "endpoint",
        "endpoint configuration",
        "model",
    ]
    (left,) = aws("sagemaker").list_models()["Models"]
    assert left["ModelName"] == "kennel-another"
    assert "nothing to delete" in cloud.run("delete", "--endpoint", "--yes").stdout


def test_an_endpoint_that_comes_up_is_awaited_before_it_is_deleted(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(cloud)
    states = iter(["Creating", "Creating", "InService"])
    status = endpoint.status

    def coming_up(session: Any, name: str) -> dict[str, Any] | None:
        found = status(session, name)
        return found and {**found, "EndpointStatus": next(states)}

    monkeypatch.setattr(endpoint, "status", coming_up)
    answer = cloud.run("delete", "--yes")
    assert answer.code == 0, answer.stderr
    assert "kennel is creating, and is deleted after that" in answer.stdout
    assert list(states) == []


def test_a_deploy_that_somebody_else_was_quicker_with_fails(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(cloud)
    send = Session.send

    def refuse(session: Session, call: api.Call) -> dict[str, Any]:
        if call.operation == "CreateEndpoint":
            message = "Cannot create already existing endpoint"
            error: Any = {"Error": {"Code": "ValidationException", "Message": message}}
            raise ClientError(error, "CreateEndpoint")
        return send(session, call)

    monkeypatch.setattr(endpoint, "status", lambda session, name: None)
    monkeypatch.setattr(Session, "send", refuse)
    refused = cloud.run("deploy", "--model", "s3://photos/model.tar.gz")
    assert refused.code == 1
    assert "which was deployed at the same time" in refused.stderr


def test_an_endpoint_that_is_not_the_project_s_is_not_updated(cloud: Workspace) -> None:
    deployed(cloud)
    arn = aws("sagemaker").describe_endpoint(EndpointName="kennel")["EndpointArn"]
    aws("sagemaker").delete_tags(ResourceArn=arn, TagKeys=["kennel:made-by"])
    refused = cloud.run("deploy", "--model", "s3://photos/model.tar.gz")
    assert "not made for this project: take another --project" in refused.stderr


def test_a_tuning_of_a_project_with_a_long_name_is_found(cloud: Workspace) -> None:
    project = ("--project", "photographs-of-dogs")
    started = cloud.run("tune", "--data", cloud.data, "--no-wait", "--json", *project)
    assert started.code == 0, started.stderr
    assert started.json["tuning_job"] in cloud.run("status", *project).stdout


def test_a_clarify_job_is_shown_and_stopped(cloud: Workspace) -> None:
    job = names.unique("kennel", "clarify")
    given = clarify.request(
        Settings(),
        job,
        role=ROLE,
        region=REGION,
        images="s3://a/b",
        config="s3://a/c",
        output="s3://a/d",
    )
    aws("sagemaker").create_processing_job(**given)
    assert job in cloud.run("status").stdout
    shown = cloud.run("delete", "--dry-run", "--json").json
    stopped = shown.get("would_delete", [])
    state = aws("sagemaker").describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"]
    assert stopped == ([f"Clarify job {job}"] if state == "InProgress" else [])


def test_provisioned_concurrency_is_one_request_more() -> None:
    calls = front.calls("kennel", "kennel", region=REGION, account=ACCOUNT, provisioned=2)
    for call in calls:
        api.check(call)
    assert calls[-1].request["ProvisionedConcurrentExecutions"] == 2


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The function's code as it is zipped."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with zipfile.ZipFile(io.BytesIO(front.archive())) as archive:
        (name,) = archive.namelist()
        archive.extractall(tmp_path)
    found = importlib.util.spec_from_file_location("front_handler", tmp_path / name)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class Runtime:
    """Answers as the endpoint does."""

    def __init__(self, answer: Callable[[dict[str, Any]], bytes]) -> None:
        self.answer = answer

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.answer(request))}


def test_the_lambda_passes_the_image_on(
    handler: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDPOINT_NAME", "kennel")
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> bytes:
        seen.append(request)
        return b'[{"label": "dog", "probability": 1.0}]'

    monkeypatch.setattr(handler, "_runtime", lambda: Runtime(answer))
    event = {
        "body": base64.b64encode(b"\xff\xd8").decode(),
        "isBase64Encoded": True,
        "headers": {"Content-Type": "image/jpeg"},
    }
    answered = handler.handler(event, None)
    assert answered["statusCode"] == 200
    assert json.loads(answered["body"])[0]["label"] == "dog"
    assert seen[0]["Body"] == b"\xff\xd8"
    assert seen[0]["ContentType"] == "image/jpeg"
    assert handler.handler({"body": ""}, None)["statusCode"] == 400
    by_curl = {**event, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    assert handler.handler(by_curl, None)["statusCode"] == 200
    assert seen[1]["ContentType"] == "application/x-image"

    def refuse(request: dict[str, Any]) -> bytes:
        error: Any = {"Error": {"Code": "ModelError"}, "OriginalStatusCode": 415}
        raise ClientError(error | {"OriginalMessage": "no image"}, "InvokeEndpoint")

    monkeypatch.setattr(handler, "_runtime", lambda: Runtime(refuse))
    refused = handler.handler(event, None)
    assert refused["statusCode"] == 415
    assert "no image" in refused["body"]


def test_the_archive_is_the_same_every_time() -> None:
    assert front.archive() == front.archive()


def train_request(cloud: Workspace, *arguments: str) -> dict[str, Any]:
    answer = cloud.run("train", "--data", cloud.data, "--dry-run", *arguments)
    assert answer.code == 0, answer.stderr
    request: dict[str, Any] = answer.json["requests"][0]["request"]
    return request


def test_spot_training_has_checkpoints_and_patience(cloud: Workspace) -> None:
    request = train_request(cloud, "--spot", "--max-run", "600")
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {
        "MaxRuntimeInSeconds": 600,
        "MaxWaitTimeInSeconds": 1200,
    }
    place = request["CheckpointConfig"]["S3Uri"]
    assert place.endswith(f"/kennel/checkpoints/{request['TrainingJobName']}")


def test_warm_pools_and_their_limit(cloud: Workspace) -> None:
    request = train_request(cloud, "--keep-alive", "600")
    assert request["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    refused = cloud.run("train", "--data", cloud.data, "--keep-alive", "99999", "--dry-run")
    assert "KeepAlivePeriodInSeconds must be at most 21600" in refused.stderr


def test_several_machines_are_asked_for_and_refused_where_there_is_one(cloud: Workspace) -> None:
    several = ("train", "--data", cloud.data, "--instances", "2")
    answer = cloud.run(*several, "--image", IMAGE, "--dry-run").json
    assert answer["requests"][0]["request"]["ResourceConfig"]["InstanceCount"] == 2
    assert answer["paid_by_the_hour"][0]["instances"] == 2
    refused = cloud.run(*several, "--on", "process")
    assert "--on process trains on one machine: change --instances" in refused.stderr
    assert "at least 1, got 0" in cloud.run(*several[:-1], "0").stderr


def test_the_debugger_of_aws_as_the_earlier_project_had_it(cloud: Workspace) -> None:
    request = train_request(cloud, "--aws-debugger")
    rules = [rule["RuleConfigurationName"] for rule in request["DebugRuleConfigurations"]]
    assert rules == [
        "LossNotDecreasing",
        "VanishingGradient",
        "Overfit",
        "Overtraining",
        "PoorWeightInitialization",
    ]
    assert request["ProfilerConfig"]["ProfilingIntervalInMilliseconds"] == 500
    profiler = [rule["RuleConfigurationName"] for rule in request["ProfilerRuleConfigurations"]]
    assert profiler == ["LowGPUUtilization", "ProfilerReport"]
    image = f"929884845733.dkr.ecr.{REGION}.amazonaws.com/sagemaker-debugger-rules:latest"
    assert debugger.rule_image(REGION) == image
    assert debugger.rule_image("cn-north-1").endswith(".cn/sagemaker-debugger-rules:latest")
    with pytest.raises(UserError, match="is not offered in this machine"):
        debugger.rule_image("this machine")


def test_a_transform_takes_a_place_in_s3(cloud: Workspace) -> None:
    model = ("--model", "s3://photos/model.tar.gz", "--image", IMAGE)
    shown = cloud.run("transform", "s3://photos/unlabelled", *model, "--dry-run").json
    source = shown["requests"][1]["request"]["TransformInput"]["DataSource"]["S3DataSource"]
    assert source == {"S3DataType": "S3Prefix", "S3Uri": "s3://photos/unlabelled/"}


def test_a_transform_is_created_with_a_model(cloud: Workspace, tmp_path: Path) -> None:
    given = ("transform", cloud.data / "test", "--model", "s3://photos/model.tar.gz")
    model, job = (call["request"] for call in cloud.run(*given, "--dry-run").json["requests"])
    assert job["ModelName"] == model["ModelName"]
    assert job["TransformInput"]["SplitType"] == "None"
    assert job["TransformOutput"]["Accept"] == "application/json; verbose=true"
    gpu = transform.request(
        Settings(endpoint_instance_type="ml.g5.xlarge"), "n", model="m", address="a", output="o"
    )
    assert gpu["TransformResources"]["TransformAmiVersion"] == transform.GPU_AMI


@pytest.mark.parametrize(
    ("image", "answers", "found"),
    [
        ("a/1.jpg", ["a/1.jpg.out", "b/1.jpg.out"], "a/1.jpg.out"),
        ("a/1.jpg", ["test/a/1.jpg.out", "test/b/1.jpg.out"], "test/a/1.jpg.out"),
        ("a/1.jpg", ["1.jpg.out"], "1.jpg.out"),
        ("a/1.jpg", ["2.jpg.out"], None),
        ("a/1.jpg", ["x/1.jpg.out", "y/1.jpg.out"], None),
    ],
)
def test_answers_are_found_whichever_folders_are_kept(
    image: str, answers: list[str], found: str | None
) -> None:
    assert transform.answers_for([image], answers) == [found]


def test_what_this_machine_has_not_is_refused_with_the_way_out(workspace: Workspace) -> None:
    workspace.run("deploy", "--model", "file:///no/model.tar.gz")
    refused = workspace.run("autoscale")
    assert "There is no application-autoscaling on this machine" in refused.stderr
    assert "There is no sts on this machine" in workspace.run("front").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_that_the_shell_reads(workspace: Workspace, shell: str) -> None:
    script = workspace.run("completion", shell).stdout
    assert "--recipe" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    if shell == "bash":
        asked = f"{script}\nCOMP_WORDS=(launch.py dep); COMP_CWORD=1; _kennel_launch\n"
        done = subprocess.run(
            ["bash", "-c", asked + 'echo "${COMPREPLY[@]}"'],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["deploy"]
    assert "completion takes one of bash, zsh" in workspace.run("completion").stderr


def test_a_gpu_endpoint_asks_for_its_driver() -> None:
    assert endpoint.instance_variant("m", "ml.g5.xlarge", 1)["InferenceAmiVersion"]


def variant(cloud: Workspace, *arguments: str) -> dict[str, Any]:
    answer = cloud.run("deploy", "--model", "s3://photos/model.tar.gz", "--dry-run", *arguments)
    assert answer.code == 0, answer.stderr
    found: dict[str, Any] = answer.json["requests"][1]["request"]["ProductionVariants"][0]
    return found


def test_a_serverless_endpoint_has_memory_and_no_machine(cloud: Workspace) -> None:
    found = variant(cloud, "--serverless")
    assert found["ServerlessConfig"] == {"MemorySizeInMB": 4096, "MaxConcurrency": 5}
    assert "InstanceType" not in found
    given = ("deploy", "--model", "s3://photos/model.tar.gz", "--serverless", "1500")
    assert "serverless memory is one of 1024" in cloud.run(*given).stderr
    assert aws("sagemaker").list_models()["Models"] == []


def test_an_update_goes_back_when_an_alarm_goes_off(cloud: Workspace) -> None:
    deployed(cloud)
    given = ("deploy", "--model", "s3://photos/model.tar.gz", "--dry-run")
    answer = cloud.run(*given, "--rollback-alarm", "errors")
    update = answer.json["requests"][2]
    assert update["operation"] == "UpdateEndpoint"
    deployment = update["request"]["DeploymentConfig"]
    assert deployment["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "errors"}]}
    routing = deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 300}


def test_a_machine_that_there_is_not_is_refused_before_anything_is_made(cloud: Workspace) -> None:
    given = ("deploy", "--model", "s3://photos/model.tar.gz")
    refused = cloud.run(*given, "--endpoint-instance-type", "ml.m5.lage")
    assert "did you mean 'ml.m5.large'" in refused.stderr
    assert aws("sagemaker").list_models()["Models"] == []


def test_an_asynchronous_endpoint_takes_images_from_s3(cloud: Workspace) -> None:
    aws("s3").create_bucket(
        Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    given = ("deploy", "--model", "s3://photos/model.tar.gz", "--async", "--bucket", "photos")
    assert cloud.run(*given).code == 0
    config = aws("sagemaker").describe_endpoint_config(
        EndpointConfigName=aws("sagemaker").describe_endpoint(EndpointName="kennel")[
            "EndpointConfigName"
        ]
    )
    places = config["AsyncInferenceConfig"]["OutputConfig"]
    assert places["S3OutputPath"].startswith("s3://photos/kennel/async/kennel-model-")
    assert places["S3FailurePath"] == f"{places['S3OutputPath']}-failures"
