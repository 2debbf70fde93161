"""All that Kennel made for one project, found by its tags: for `status` and `delete`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from launcher import components, endpoint
from launcher.names import stem
from launcher.refusals import is_missing, is_refused
from launcher.session import Session


@dataclass(frozen=True)
class Kind:
    """How one kind of thing is listed, stopped and deleted."""

    title: str
    list_method: str
    list_member: str
    name_member: str
    arn_member: str
    status_member: str | None = None
    end_method: str = ""
    """Deletes it, or stops it where it runs."""
    running: tuple[str, ...] = ()
    """The states in which it can be stopped; none where it can be deleted in any."""
    named_after: str = ""
    """The kind of name that the shortest of its names have."""


TRAINING_JOB = Kind(
    "training job", "list_training_jobs", "TrainingJobSummaries", "TrainingJobName",
    "TrainingJobArn", "TrainingJobStatus", "stop_training_job", ("InProgress",), "tuning",
)  # fmt: skip
ENDPOINT = Kind(
    "endpoint", "list_endpoints", "Endpoints", "EndpointName",
    "EndpointArn", "EndpointStatus", "delete_endpoint",
)  # fmt: skip
COMPONENT = Kind(
    "component", "list_inference_components", "InferenceComponents", "InferenceComponentName",
    "InferenceComponentArn", "InferenceComponentStatus", "delete_inference_component",
)  # fmt: skip
ENDPOINT_CONFIG = Kind(
    "endpoint configuration", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName",
    "EndpointConfigArn", None, "delete_endpoint_config",
)  # fmt: skip
MODEL = Kind(
    "model", "list_models", "Models", "ModelName", "ModelArn", None, "delete_model",
)  # fmt: skip

TUNING_JOB = Kind(
    "tuning", "list_hyper_parameter_tuning_jobs", "HyperParameterTuningJobSummaries",
    "HyperParameterTuningJobName", "HyperParameterTuningJobArn", "HyperParameterTuningJobStatus",
    "stop_hyper_parameter_tuning_job", ("InProgress",), "tuning",
)  # fmt: skip

TRANSFORM_JOB = Kind(
    "transform", "list_transform_jobs", "TransformJobSummaries", "TransformJobName",
    "TransformJobArn", "TransformJobStatus", "stop_transform_job", ("InProgress",),
)  # fmt: skip

PROCESSING_JOB = Kind(
    "Clarify job", "list_processing_jobs", "ProcessingJobSummaries", "ProcessingJobName",
    "ProcessingJobArn", "ProcessingJobStatus", "stop_processing_job", ("InProgress",),
)  # fmt: skip

KINDS = (
    TUNING_JOB,
    TRAINING_JOB,
    TRANSFORM_JOB,
    PROCESSING_JOB,
    COMPONENT,
    ENDPOINT,
    ENDPOINT_CONFIG,
    MODEL,
)
"""In the order in which they are ended: what uses a thing goes before the thing."""


@dataclass(frozen=True)
class Entry:
    """One thing that was made."""

    kind: Kind
    name: str
    status: str
    created: Any

    @property
    def ends(self) -> bool:
        """Whether `delete` has something to do here."""
        return not self.kind.running or self.status in self.kind.running

    def end(self, client: Any) -> None:
        """Stop or delete it; in the meantime it may have come to its end by itself."""
        try:
            getattr(client, self.kind.end_method)(**{self.kind.name_member: self.name})
        except ClientError as error:
            if not is_missing(error) and not (self.kind.running and is_refused(error)):
                raise


def find(session: Session, kinds: tuple[Kind, ...] = KINDS) -> Iterator[Entry]:
    """What carries the project's tags; everything else is left out."""
    for kind in kinds:
        if kind is COMPONENT and not _has_components(session):
            continue
        if kind is PROCESSING_JOB and not session.backend.paid:
            continue
        for summary in _listed(session.sagemaker, kind, session.settings.project):
            if session.owns(summary[kind.arn_member]):
                status = str(summary[kind.status_member]) if kind.status_member else ""
                yield Entry(kind, summary[kind.name_member], status, summary["CreationTime"])


def of_endpoint(session: Session, name: str) -> Iterator[Entry]:
    """An endpoint with its components, its configuration and its models."""
    names = parts(session, name) if name else frozenset()
    if names:
        kinds = (COMPONENT, ENDPOINT, ENDPOINT_CONFIG, MODEL)
        yield from (entry for entry in find(session, kinds) if entry.name in names)


def parts(session: Session, name: str) -> frozenset[str]:
    """The names of an endpoint and of what it is made of; none where there is no endpoint."""
    found = endpoint.status(session, name)
    if found is None:
        return frozenset()
    config = endpoint.configuration(session, found)
    names = {name, found["EndpointConfigName"]}
    names |= {variant.get("ModelName", "") for variant in config.get("ProductionVariants", ())}
    if components.takes_components(session, found):
        # A component has the name of its model.
        names |= {each["InferenceComponentName"] for each in components.of(session, name)}
    return frozenset(names)


def _has_components(session: Session) -> bool:
    """Whether it is worth asking: only endpoints whose configurations name no model have any."""
    client = session.sagemaker
    return any(
        components.takes_components(
            session, client.describe_endpoint(EndpointName=summary["EndpointName"])
        )
        for summary in _listed(client, ENDPOINT, session.settings.project)
    )


def _listed(client: Any, kind: Kind, project: str) -> Iterator[dict[str, Any]]:
    """Every page, less what was named by others, whose tags it may be forbidden to look at."""
    start = stem(project, kind.named_after)
    token: dict[str, str] = {}
    while True:
        answer = getattr(client, kind.list_method)(NameContains=start, MaxResults=100, **token)
        for summary in answer[kind.list_member]:
            if summary[kind.name_member].startswith(start):
                yield summary
        if not answer.get("NextToken"):
            return
        token = {"NextToken": answer["NextToken"]}
