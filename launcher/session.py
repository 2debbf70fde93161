"""One command's surroundings: settings, backend, memory and console."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from launcher import api, limits
from launcher.api import Call
from launcher.backends import Backend
from launcher.console import Console
from launcher.memory import Memory
from launcher.names import is_unique, tags
from launcher.refusals import is_taken
from launcher.settings import Settings


@dataclass(frozen=True)
class Session:
    """What every command works with."""

    settings: Settings
    backend: Backend
    memory: Memory
    console: Console
    directory: Path
    choices: Mapping[str, Any] = field(default_factory=dict)
    """Settings given as flags, which later commands are to use too."""
    sent: list[str] = field(default_factory=list)
    """The requests that have changed something."""

    @property
    def sagemaker(self) -> Any:
        """The SageMaker client."""
        return self.backend.client("sagemaker")

    def send(self, call: Call) -> dict[str, Any]:
        """Check a request and send it. Raises UserError, or what the client raises."""
        client = self.backend.client(call.service)
        self.check(call)
        try:
            answer: dict[str, Any] = getattr(client, call.method)(**call.request)
        except ClientError as error:
            # A name of our own that nobody else has: a request that was sent again after its
            # answer was lost has done its work.
            name = call.request.get(f"{call.operation.removeprefix('Create')}Name", "")
            if is_taken(error) and is_unique(name):
                return {}
            raise
        self.sent.append(call.operation)
        self.keep_choices()
        return answer

    def owns(self, arn: str) -> bool:
        """Whether something of SageMaker's carries the project's tags."""
        found = self.sagemaker.list_tags(ResourceArn=arn)["Tags"]
        return all(tag in found for tag in tags(self.settings.project))

    def check(self, call: Call) -> None:
        """Refuse what the service would refuse. Raises UserError."""
        api.check(call, local=not self.backend.paid)
        limits.check(call)

    def keep_choices(self) -> None:
        """Remember the choices: something was done with them."""
        if self.choices:
            self.memory.choose(**self.choices)

    def show(self, calls: Sequence[Call]) -> None:
        """What `--dry-run` prints: the requests, checked, and what they would cost by the hour."""
        for call in calls:
            self.check(call)
        content: dict[str, Any] = {"requests": [call.as_json() for call in calls]}
        if self.backend.paid:
            content["paid_by_the_hour"] = [entry for call in calls for entry in _paid(call)]
        self.console.document(content)

    def remember(self, **names: str | None) -> None:
        """Keep names for the commands to come."""
        self.memory.remember(self.backend.name, **names)

    def last(self, kind: str) -> str | None:
        """The last name of a kind on this backend."""
        return self.memory.name(self.backend.name, kind)


def _paid(call: Call) -> list[dict[str, Any]]:
    """Machines, how many, and for how long at most; None is until it is deleted."""
    request = call.request
    if call.operation == "CreateTrainingJob":
        return [_machine("training", request["ResourceConfig"], request["StoppingCondition"])]
    if call.operation == "CreateHyperParameterTuningJob":
        definition = request["TrainingJobDefinition"]
        config = request["HyperParameterTuningJobConfig"]
        limits = config["ResourceLimits"]
        entry = _machine("tuning", definition["ResourceConfig"], definition["StoppingCondition"])
        entry["instances"] *= limits["MaxParallelTrainingJobs"]
        # A grid has no number of its own: it is every combination of its lists.
        lists = config["ParameterRanges"].get("CategoricalParameterRanges", [])
        every = math.prod(len(entry["Values"]) for entry in lists)
        jobs = limits.get("MaxNumberOfTrainingJobs", every)
        return [{**entry, "jobs": jobs, "longest_seconds_are_for": "each job"}]
    if call.operation == "CreateProcessingJob":
        resources = request["ProcessingResources"]["ClusterConfig"]
        return [_machine("processing", resources, request["StoppingCondition"])]
    if call.operation == "CreateTransformJob":
        resources = request["TransformResources"]
        return [_machine("transform", resources, {"MaxRuntimeInSeconds": None})]
    if call.operation == "CreateEndpointConfig":
        return [
            _machine("endpoint", variant, {"MaxRuntimeInSeconds": None})
            for variant in request["ProductionVariants"]
            if "InstanceType" in variant
        ]
    return []


def _machine(what: str, resources: Any, stopping: Any) -> dict[str, Any]:
    return {
        "what": what,
        "instance_type": resources["InstanceType"],
        "instances": resources.get("InstanceCount", resources.get("InitialInstanceCount", 1)),
        "longest_seconds": stopping.get("MaxRuntimeInSeconds"),
    }
