"""Model, endpoint configuration and endpoint: the requests, and waiting until one takes calls."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from container.errors import UserError
from launcher.api import Call
from launcher.logs import LogReader, endpoint_group
from launcher.names import tags
from launcher.refusals import is_missing, is_taken
from launcher.session import Session
from launcher.settings import Settings

VARIANT = "AllTraffic"
GPU_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
"""The image's CUDA 13 needs driver 580; endpoints start with driver 470 unless they are told."""
START_SECONDS = 600
READY_SECONDS = 1800.0
BAKING_SECONDS = 300
"""How long alarms are watched before an update is final."""
LAST_LINES = 12
UNDER_WAY = ("Creating", "Updating", "SystemUpdating", "RollingBack")
ASYNCHRONOUS = "asynchronous"
COMPONENTS = "one of components"
MULTI_MODEL = "one of many models"
SERVERLESS = "serverless"


def is_gpu(instance_type: str) -> bool:
    """Whether a machine has NVIDIA devices."""
    return instance_type.startswith(("ml.g", "ml.p"))


def model_request(
    settings: Settings,
    name: str,
    *,
    role: str,
    image: str,
    artifact: str,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """`CreateModel`."""
    container = {"Image": image, "ModelDataUrl": artifact}
    return _model_request(settings, name, role, container, environment)


def many_models_request(
    settings: Settings,
    name: str,
    *,
    role: str,
    image: str,
    folder: str,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """`CreateModel` for all the archives in one folder, each loaded when it is first asked for."""
    container = {
        "Image": image,
        "Mode": "MultiModel",
        "ModelDataUrl": f"{folder.rstrip('/')}/",
        "MultiModelConfig": {"ModelCacheSetting": "Enabled"},
    }
    return _model_request(settings, name, role, container, environment)


def _model_request(
    settings: Settings,
    name: str,
    role: str,
    container: Mapping[str, Any],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    given = {"Environment": dict(environment)} if environment else {}
    return {
        "ModelName": name,
        "PrimaryContainer": {**container, **given},
        "ExecutionRoleArn": role,
        "Tags": tags(settings.project),
    }


def instance_variant(model: str, instance_type: str, count: int) -> dict[str, Any]:
    """A variant on machines that run until they are deleted."""
    variant = {
        "VariantName": VARIANT,
        "ModelName": model,
        "InitialInstanceCount": count,
        "InstanceType": instance_type,
        "ModelDataDownloadTimeoutInSeconds": START_SECONDS,
        "ContainerStartupHealthCheckTimeoutInSeconds": START_SECONDS,
    }
    return variant | ({"InferenceAmiVersion": GPU_AMI} if is_gpu(instance_type) else {})


def serverless_variant(model: str, memory: int, concurrency: int) -> dict[str, Any]:
    """A variant that costs money only while it answers."""
    return {
        "VariantName": VARIANT,
        "ModelName": model,
        "ServerlessConfig": {"MemorySizeInMB": memory, "MaxConcurrency": concurrency},
    }


def config_request(
    settings: Settings, name: str, variant: Mapping[str, Any], answers: str | None = None
) -> dict[str, Any]:
    """`CreateEndpointConfig`; asynchronous where answers go to an address."""
    request: dict[str, Any] = {
        "EndpointConfigName": name,
        "ProductionVariants": [dict(variant)],
        "Tags": tags(settings.project),
    }
    if answers:
        places = {"S3OutputPath": answers, "S3FailurePath": f"{answers}-failures"}
        request["AsyncInferenceConfig"] = {"OutputConfig": places}
    return request


def rollback(alarms: Sequence[str]) -> dict[str, Any]:
    """`UpdateEndpoint`'s members: wait before the old machines go, and back on an alarm."""
    # A canary would need at least two machines.
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": BAKING_SECONDS}
    return {
        "DeploymentConfig": {
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in alarms]},
        }
    }


def endpoint_call(
    session: Session, name: str, config: str, *, alarms: Sequence[str] = (), scaled: bool = False
) -> Call:
    """Create the endpoint, or update the one that is there, which serves on meanwhile.

    One that is `scaled` keeps as many machines as it has now.

    Raises:
        UserError: the endpoint is there and cannot be updated now, or is somebody else's.
    """
    found = status(session, name)
    if found is None or found["EndpointStatus"] == "Deleting":
        request = {
            "EndpointName": name,
            "EndpointConfigName": config,
            "Tags": tags(session.settings.project),
        }
        return Call("sagemaker", "CreateEndpoint", request)
    check_owner(session, name, found)
    if found["EndpointStatus"] != "InService":
        raise UserError(
            f"The endpoint {name} is {found['EndpointStatus']}; wait until it is InService, or "
            "remove it with `./launch.py delete`, then deploy again."
        )
    update: dict[str, Any] = {"EndpointName": name, "EndpointConfigName": config}
    if scaled:
        update["RetainAllVariantProperties"] = True
    return Call("sagemaker", "UpdateEndpoint", update | (rollback(alarms) if alarms else {}))


def check_owner(session: Session, name: str, found: Mapping[str, Any]) -> None:
    """Refuse an endpoint that is somebody else's. Raises UserError."""
    if not session.owns(found["EndpointArn"]):
        raise UserError(
            f"There is an endpoint {name} that was not made for this project: take another "
            "--project."
        )


def status(session: Session, name: str) -> dict[str, Any] | None:
    """The endpoint's description, or None where there is none."""
    try:
        answer: dict[str, Any] = session.sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return answer


def kind(session: Session, name: str) -> str | None:
    """What is special about an endpoint; None where nothing is, or where there is no endpoint."""
    found = status(session, name)
    if found is None:
        return None
    config = configuration(session, found)
    if "AsyncInferenceConfig" in {**found, **config}:
        return ASYNCHRONOUS
    for variant in config.get("ProductionVariants", ()):
        if "ServerlessConfig" in variant:
            return SERVERLESS
        if "ModelName" not in variant:
            return COMPONENTS
        if _has_many_models(session, variant["ModelName"]):
            return MULTI_MODEL
    return None


def _has_many_models(session: Session, model: str) -> bool:
    """False too where the model was deleted, without which its endpoint goes on."""
    try:
        found = session.sagemaker.describe_model(ModelName=model)
    except ClientError as error:
        if is_missing(error):
            return False
        raise
    return bool(found.get("PrimaryContainer", {}).get("Mode") == "MultiModel")


def configuration(session: Session, found: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an endpoint that was found; empty where that is deleted already."""
    try:
        answer: dict[str, Any] = session.sagemaker.describe_endpoint_config(
            EndpointConfigName=found["EndpointConfigName"]
        )
    except ClientError as error:
        if is_missing(error):
            return {}
        raise
    return answer


def bring_up(session: Session, call: Call) -> None:
    """Send what `endpoint_call` made, and wait until the endpoint takes calls. Raises UserError."""
    name, started = call.request["EndpointName"], time.time()
    if call.operation == "CreateEndpoint":
        _wait_until_gone(session, name)
    try:
        session.send(call)
    except ClientError as error:
        # It may have been sent again after its answer was lost; `_wait` sees whose endpoint it is.
        if call.operation != "CreateEndpoint" or not is_taken(error):
            raise
    _wait(session, name, call.request["EndpointConfigName"], started)


def settle(session: Session, name: str) -> None:
    """Wait until AWS lets the endpoint be deleted: not while it comes up. Raises UserError."""
    said = ""
    for _ in session.backend.patience.until(READY_SECONDS, f"The endpoint {name}"):
        found = status(session, name) if session.backend.paid else None
        if found is None or found["EndpointStatus"] not in UNDER_WAY:
            return
        if not said:
            said = f"  {name} is {found['EndpointStatus'].lower()}, and is deleted after that …"
            session.console.say(said)


def _wait_until_gone(session: Session, name: str) -> None:
    for _ in session.backend.patience.until(READY_SECONDS, f"Deleting the endpoint {name}"):
        found = status(session, name)
        if found is None or found["EndpointStatus"] != "Deleting":
            return


def _wait(session: Session, name: str, config: str, started: float) -> None:
    """Wait until the endpoint takes calls.

    Raises:
        UserError: it failed, or an update was rolled back, and the message says why; or it
            serves what somebody else has deployed.
    """
    last = ""
    for _ in session.backend.patience.until(READY_SECONDS, f"The endpoint {name}"):
        found = session.sagemaker.describe_endpoint(EndpointName=name)
        state = str(found["EndpointStatus"])
        if state != last and state in ("Creating", "Updating"):
            session.console.say(f"  {state.lower()} …")
        last = state
        if state == "InService" and "FailureReason" not in found:
            if found["EndpointConfigName"] == config:
                return
            raise UserError(
                f"The endpoint {name} serves {found['EndpointConfigName']}, which was deployed at "
                f"the same time, and not {config}: deploy again."
            )
        if state not in UNDER_WAY:
            _refuse(session, name, found, started)


def _refuse(session: Session, name: str, found: Mapping[str, Any], started: float) -> None:
    reader = LogReader(session.backend.client("logs"), endpoint_group(name), "")
    # The machines of the deployment before have streams in the same group.
    for line in reader.last_lines(LAST_LINES, since=started):
        session.console.quote(line)
    reason = str(found.get("FailureReason", "SageMaker gives no reason")).rstrip(".")
    kept = (
        "; it still serves the model from before" if found["EndpointStatus"] == "InService" else ""
    )
    raise UserError(
        f"The endpoint {name} did not come up: {reason}{kept}. "
        "`./launch.py logs --endpoint` shows all that it printed."
    )
