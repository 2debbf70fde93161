"""Target tracking: as many machines behind an endpoint as its requests need."""

from dataclasses import dataclass
from typing import Any

from container.errors import UserError
from launcher.api import Call
from launcher.endpoint import ASYNCHRONOUS, COMPONENTS, SERVERLESS, VARIANT
from launcher.session import Session

SERVICE = "application-autoscaling"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"


@dataclass(frozen=True)
class Scaling:
    """From how few to how many machines, and when."""

    least: int = 1
    most: int = 3
    concurrent: float = 10.0
    """Requests at work at the same time that are aimed at, for each machine."""
    invocations: float | None = None
    """Requests a minute and machine that are aimed at instead."""
    out_seconds: int = 30
    """How long to wait after machines were added before more are."""
    in_seconds: int = 120
    """How long to wait after machines were removed before more are."""


def calls(endpoint: str, scaling: Scaling, kind: str | None = None) -> list[Call]:
    """Register the endpoint, of a kind as `launcher.endpoint` names them, and give it a policy.

    Raises:
        UserError: bounds or aims that make no sense, or an endpoint that does not scale so.
    """
    if kind in (SERVERLESS, COMPONENTS):
        raise UserError(
            f"{endpoint} is {kind}, which does not scale by its machines; autoscale takes an "
            "endpoint of models on machines."
        )
    if not 0 < scaling.least <= scaling.most:
        raise UserError(f"--min must be from 1 to --max, got {scaling.least} and {scaling.most}.")
    if scaling.concurrent <= 0 or (scaling.invocations is not None and scaling.invocations <= 0):
        raise UserError("--concurrent and --invocations must be above 0.")
    target = _target(endpoint)
    metric: dict[str, Any]
    if kind == ASYNCHRONOUS:
        if scaling.invocations is not None:
            raise UserError(
                f"{endpoint} is {kind} and does not count its requests a minute: take --concurrent."
            )
        # Those that wait for a machine, which stand in no predefined metric.
        metric = {
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
                "Statistic": "Average",
            }
        }
    elif scaling.invocations is None:
        # Looked at every ten seconds, and the same number whatever the model and the machine.
        metric = _predefined("SageMakerVariantConcurrentRequestsPerModelHighResolution")
    else:
        metric = _predefined("SageMakerVariantInvocationsPerInstance")
    policy = {
        **target,
        "PolicyName": f"{endpoint}-requests",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": scaling.invocations or scaling.concurrent,
            **metric,
            "ScaleOutCooldown": scaling.out_seconds,
            "ScaleInCooldown": scaling.in_seconds,
        },
    }
    bounds = {"MinCapacity": scaling.least, "MaxCapacity": scaling.most}
    return [
        Call(SERVICE, "RegisterScalableTarget", {**target, **bounds}),
        Call(SERVICE, "PutScalingPolicy", policy),
    ]


def _predefined(metric: str) -> dict[str, Any]:
    return {"PredefinedMetricSpecification": {"PredefinedMetricType": metric}}


def _target(endpoint: str) -> dict[str, Any]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": DIMENSION,
    }


def is_scaled(session: Session, endpoint: str) -> bool:
    """Whether an endpoint has as many machines as its requests need."""
    if SERVICE not in session.backend.clients:
        return False
    found = session.backend.client(SERVICE).describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[_target(endpoint)["ResourceId"]]
    )
    return bool(found["ScalableTargets"])


def forget(session: Session, endpoint: str) -> None:
    """Take an endpoint out of automatic scaling, as must be done before it is deleted."""
    if is_scaled(session, endpoint):
        session.backend.client(SERVICE).deregister_scalable_target(**_target(endpoint))
