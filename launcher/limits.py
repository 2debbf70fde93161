"""What SageMaker refuses and its models do not say: limits that join several members."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from container.errors import UserError
from launcher.api import Call

Request = Mapping[str, Any]

LONGEST_VALUE = 256
"""The API's text for hyperparameter values; its model allows more than the service keeps."""
MOST_HYPERPARAMETERS = 100
MOST_TUNED = 30
TUNING_ENVIRONMENT = 48
TRANSFORM_MEGABYTES = 100
SERVERLESS_MEMORY = (1024, 2048, 3072, 4096, 5120, 6144)
_ECR = re.compile(r"\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/.+")


def check(call: Call) -> None:
    """Refuse what the service would refuse. Raises UserError."""
    for refusal in _CHECKS.get(call.operation, _nothing)(call.request):
        raise UserError(f"{call.operation} would be refused: {refusal}")


def image_region(image: str) -> str | None:
    """The region of an image in ECR, or None for an image elsewhere."""
    found = _ECR.fullmatch(image)
    return found.group(1) if found else None


def check_image(image: str, region: str) -> None:
    """Refuse an image that SageMaker cannot pull. Raises UserError."""
    found = image_region(image)
    if found is None:
        raise UserError(
            f"SageMaker takes images from Amazon ECR, and {image} is not there: run "
            "`./launch.py push --on sagemaker`, or give --image with its address in ECR."
        )
    if found != region:
        raise UserError(f"The image is in {found} and the jobs are in {region}; push it there.")


def _nothing(request: Request) -> Iterator[str]:
    yield from ()


def _training(request: Request) -> Iterator[str]:
    yield from _hyperparameters(request.get("HyperParameters", {}), 0)
    yield from _stopping(request)
    if request.get("RetryStrategy") and request["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
        yield "a warm pool and a retry strategy exclude each other."


def _tuning(request: Request) -> Iterator[str]:
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    ranges = [entry for kind in config["ParameterRanges"].values() for entry in kind]
    if len(ranges) > MOST_TUNED:
        yield f"{len(ranges)} ranges are more than {MOST_TUNED}."
    yield from _hyperparameters(definition.get("StaticHyperParameters", {}), len(ranges) + 1)
    yield from _stopping(definition)
    if len(definition.get("Environment", {})) > TUNING_ENVIRONMENT:
        yield f"a tuning's jobs may have {TUNING_ENVIRONMENT} environment variables."
    regular = {entry["Name"] for entry in definition["AlgorithmSpecification"]["MetricDefinitions"]}
    metric = config["HyperParameterTuningJobObjective"]["MetricName"]
    if metric not in regular:
        yield f"the objective {metric} is none of the metrics that are defined."
    if config["Strategy"] == "Hyperband" and config["TrainingJobEarlyStoppingType"] != "Off":
        yield "Hyperband stops trials early by itself."
    if config["Strategy"] == "Grid" and set(config["ParameterRanges"]) != {
        "CategoricalParameterRanges"
    }:
        yield "Grid takes lists of values only."


def _hyperparameters(values: Mapping[str, str], added: int) -> Iterator[str]:
    if len(values) + added > MOST_HYPERPARAMETERS:
        yield f"there may be {MOST_HYPERPARAMETERS} hyperparameters."
    for name, value in values.items():
        if len(value) > LONGEST_VALUE:
            yield f"{name} has {len(value)} characters, and a hyperparameter {LONGEST_VALUE}."


def _stopping(request: Request) -> Iterator[str]:
    stopping = request["StoppingCondition"]
    longest, wait = (
        stopping.get("MaxRuntimeInSeconds", 86_400),
        stopping.get("MaxWaitTimeInSeconds"),
    )
    if request.get("EnableManagedSpotTraining") and wait is None:
        yield "spot training needs MaxWaitTimeInSeconds."
    if wait is not None and wait < longest:
        yield f"it may wait {wait} seconds, which is less than the {longest} it may run."


def _endpoint_config(request: Request) -> Iterator[str]:
    for variant in request["ProductionVariants"]:
        serverless = variant.get("ServerlessConfig")
        if serverless and serverless["MemorySizeInMB"] not in SERVERLESS_MEMORY:
            known = ", ".join(map(str, SERVERLESS_MEMORY))
            yield f"serverless memory is one of {known} MB, not {serverless['MemorySizeInMB']}."
        provisioned = (serverless or {}).get("ProvisionedConcurrency")
        if provisioned and provisioned > serverless["MaxConcurrency"]:
            yield "provisioned concurrency is at most the greatest concurrency."
        if serverless and "InstanceType" in variant:
            yield "a serverless variant has no machine."


def _transform(request: Request) -> Iterator[str]:
    megabytes = request.get("MaxPayloadInMB", 6) * request.get("MaxConcurrentTransforms", 1)
    if megabytes > TRANSFORM_MEGABYTES:
        yield (
            f"concurrent requests times megabytes may be {TRANSFORM_MEGABYTES}, got {megabytes}."
        )
    if len(request.get("Environment", {})) > 16:
        yield "a transform's environment may have 16 variables."


_CHECKS: dict[str, Callable[[Request], Iterator[str]]] = {
    "CreateTrainingJob": _training,
    "CreateHyperParameterTuningJob": _tuning,
    "CreateEndpointConfig": _endpoint_config,
    "CreateTransformJob": _transform,
}
