"""Target tracking: as many machines behind an endpoint as its requests need."""

from dataclasses import dataclass
from typing import Any

from container.errors import UserError
from launcher.api import Call
from launcher.endpoint import VARIANT
from launcher.session import Session

SERVICE = "application-autoscaling"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"


@dataclass(frozen=True)
class Scaling:
    """From how few to how many machines, and when."""

    least: int = 1
    most: int = 3
    invocations: float = 10.0
    """Requests a minute and machine that are aimed at."""
    out_seconds: int = 30
    """How long to wait after machines were added before more are."""
    in_seconds: int = 120
    """How long to wait after machines were removed before more are."""


def calls(endpoint: str, scaling: Scaling) -> list[Call]:
    """Register the endpoint and give it a policy. Raises UserError."""
    if not 0 < scaling.least <= scaling.most:
        raise UserError(f"--min must be from 1 to --max, got {scaling.least} and {scaling.most}.")
    target = _target(endpoint)
    policy = {
        **target,
        "PolicyName": f"{endpoint}-invocations",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": scaling.invocations,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
            },
            "ScaleOutCooldown": scaling.out_seconds,
            "ScaleInCooldown": scaling.in_seconds,
        },
    }
    bounds = {"MinCapacity": scaling.least, "MaxCapacity": scaling.most}
    return [
        Call(SERVICE, "RegisterScalableTarget", {**target, **bounds}),
        Call(SERVICE, "PutScalingPolicy", policy),
    ]


def _target(endpoint: str) -> dict[str, Any]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": DIMENSION,
    }


def forget(session: Session, endpoint: str) -> None:
    """Take an endpoint out of automatic scaling, as must be done before it is deleted."""
    if SERVICE not in session.backend.clients:
        return
    client, target = session.backend.client(SERVICE), _target(endpoint)
    found = client.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]]
    )
    if found["ScalableTargets"]:
        client.deregister_scalable_target(**target)
