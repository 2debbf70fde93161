"""Inference components: models that share the machines of one endpoint, each with its part of them.

Their endpoint's configuration names a role and machines, but no model.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from container.errors import UserError
from launcher.api import Call
from launcher.endpoint import (
    READY_SECONDS,
    START_SECONDS,
    VARIANT,
    configuration,
    instance_variant,
    is_gpu,
)
from launcher.names import tags
from launcher.refusals import is_missing
from launcher.session import Session
from launcher.settings import Settings

PROCESSORS, MEGABYTES = 1.0, 2048
"""What one copy is given at least: a ResNet-152 with its image takes 1.5 GB."""


def config_request(settings: Settings, name: str, role: str, count: int) -> dict[str, Any]:
    """`CreateEndpointConfig` for an endpoint whose models come as components."""
    machine = settings.endpoint_instance_type
    variant = {
        member: value
        for member, value in instance_variant("", machine, count).items()
        if member != "ModelName" and not member.endswith("TimeoutInSeconds")
    }
    return {
        "EndpointConfigName": name,
        "ExecutionRoleArn": role,
        "ProductionVariants": [{**variant, "RoutingConfig": {"RoutingStrategy": "RANDOM"}}],
        "Tags": tags(settings.project),
    }


def call(
    settings: Settings, name: str, endpoint: str, model: str, copies: int, machine: str
) -> Call:
    """`CreateInferenceComponent`, for an endpoint on machines of that type. Raises UserError."""
    if copies < 1:
        raise UserError(f"--components takes how many copies to run, at least 1, got {copies}.")
    needs: dict[str, Any] = {
        "NumberOfCpuCoresRequired": PROCESSORS,
        "MinMemoryRequiredInMb": MEGABYTES,
    }
    if is_gpu(machine):
        needs["NumberOfAcceleratorDevicesRequired"] = 1.0
    request = {
        "InferenceComponentName": name,
        "EndpointName": endpoint,
        "VariantName": VARIANT,
        "Specification": {
            "ModelName": model,
            "StartupParameters": {
                "ModelDataDownloadTimeoutInSeconds": START_SECONDS,
                "ContainerStartupHealthCheckTimeoutInSeconds": START_SECONDS,
            },
            "ComputeResourceRequirements": needs,
        },
        "RuntimeConfig": {"CopyCount": copies},
        "Tags": tags(settings.project),
    }
    return Call("sagemaker", "CreateInferenceComponent", request)


def takes_components(session: Session, endpoint: Mapping[str, Any]) -> bool:
    """Whether an endpoint's configuration names no model, so that its models are components."""
    variants = configuration(session, endpoint).get("ProductionVariants", ())
    return bool(variants) and not any("ModelName" in variant for variant in variants)


def machine(session: Session, name: str, endpoint: Mapping[str, Any]) -> str:
    """The type of the machines that the components of an endpoint share.

    Raises:
        UserError: it has a model of its own.
    """
    if not takes_components(session, endpoint):
        raise UserError(
            f"The endpoint {name} serves a model of its own and takes no components: remove it "
            "with `./launch.py delete` first, or give another --project."
        )
    (variant,) = configuration(session, endpoint)["ProductionVariants"]
    return str(variant["InstanceType"])


def of(session: Session, endpoint: str) -> Iterator[Mapping[str, Any]]:
    """The components of an endpoint, as `ListInferenceComponents` describes them."""
    token: dict[str, str] = {}
    while True:
        answer = session.sagemaker.list_inference_components(
            EndpointNameEquals=endpoint, MaxResults=100, **token
        )
        yield from answer["InferenceComponents"]
        if not answer.get("NextToken"):
            return
        token = {"NextToken": answer["NextToken"]}


def wait(session: Session, name: str) -> None:
    """Wait until a component takes calls. Raises UserError where it fails."""
    for _ in session.backend.patience.until(READY_SECONDS, f"The component {name}"):
        found = session.sagemaker.describe_inference_component(InferenceComponentName=name)
        if found["InferenceComponentStatus"] == "InService":
            return
        if found["InferenceComponentStatus"] == "Failed":
            reason = str(found.get("FailureReason", "SageMaker gives no reason")).rstrip(".")
            raise UserError(f"The component {name} did not come up: {reason}.")


def wait_until_gone(session: Session, name: str) -> None:
    """Wait until a deleted component has left its endpoint, which cannot go before."""
    for _ in session.backend.patience.until(READY_SECONDS, f"Deleting the component {name}"):
        try:
            session.sagemaker.describe_inference_component(InferenceComponentName=name)
        except ClientError as error:
            if is_missing(error):
                return
            raise
