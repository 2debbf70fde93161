"""Training jobs: the request, and watching one until it ends."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from container import metrics
from container.errors import UserError
from container.hyperparameters import as_strings, parse
from launcher.api import Call
from launcher.console import Console, duration
from launcher.logs import TRAINING_JOBS, LogReader
from launcher.names import tags
from launcher.session import Session
from launcher.settings import Settings

OVER = ("Completed", "Failed", "Stopped")
LONG_START_SECONDS = 600.0
STARTS_LATE = (
    "  It has not started for 10 minutes: no machine of this kind may be free. Ctrl-C leaves it "
    "waiting, `./launch.py delete` stops it; then try another --instance-type."
)
_BEFORE_TRAINING = ("Starting", "Pending", "LaunchingMLInstances", "PreparingTrainingStack")
SPOT_PATIENCE = 2
"""How much longer than a training may run, SageMaker may wait for spare machines."""


@dataclass(frozen=True)
class Place:
    """What of a backend goes into a request."""

    role: str
    image: str
    output: str


def hyperparameters(*sources: Mapping[str, object]) -> dict[str, str]:
    """What was given, checked, as the strings that the API takes; defaults stay in the image.

    Raises:
        UserError: an unknown name, or a value outside its bounds.
    """
    checked = as_strings(parse(*sources))
    given = {name.replace("_", "-") for source in sources for name in source}
    return {name: value for name, value in checked.items() if name in given}


def request(
    settings: Settings,
    name: str,
    place: Place,
    channels: Sequence[Mapping[str, Any]],
    values: Mapping[str, str],
) -> dict[str, Any]:
    """`CreateTrainingJob`."""
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": place.image,
            "TrainingInputMode": settings.input_mode,
            "MetricDefinitions": metrics.definitions(),
        },
        "RoleArn": place.role,
        "HyperParameters": dict(values),
        "InputDataConfig": list(channels),
        "OutputDataConfig": {"S3OutputPath": place.output},
        "ResourceConfig": resources(settings),
        "StoppingCondition": {"MaxRuntimeInSeconds": settings.max_run},
        "Tags": tags(settings.project),
    }


def resources(settings: Settings) -> dict[str, Any]:
    """The machine, for training and for each trial of a tuning."""
    return {
        "InstanceType": settings.instance_type,
        "InstanceCount": 1,
        "VolumeSizeInGB": settings.volume_gb,
    }


def spot(settings: Settings, checkpoints: str) -> dict[str, Any]:
    """Spare machines: cheaper, and taken away at any time, so that checkpoints are needed."""
    return {
        "EnableManagedSpotTraining": True,
        "CheckpointConfig": {"S3Uri": checkpoints},
        "StoppingCondition": {
            "MaxRuntimeInSeconds": settings.max_run,
            "MaxWaitTimeInSeconds": settings.max_run * SPOT_PATIENCE,
        },
    }


def call(given: Mapping[str, Any]) -> Call:
    """The request, addressed."""
    return Call("sagemaker", "CreateTrainingJob", given)


def watch(session: Session, name: str) -> dict[str, Any]:
    """Print what a job prints until it is over; its description.

    Raises:
        UserError: it failed; the message holds SageMaker's reason and what to try.
    """
    reader = LogReader(session.backend.client("logs"), TRAINING_JOBS, f"{name}/")
    started = time.monotonic()
    status, waiting = "", True
    while True:
        # Described before the log is read: a job that is over has printed all that it will.
        description = describe(session, name)
        for line in reader.new_lines():
            session.console.quote(line)
        secondary = str(description.get("SecondaryStatus", ""))
        if secondary != status and description["TrainingJobStatus"] not in OVER:
            session.console.say(f"  {secondary.lower()} …")
        if secondary not in _BEFORE_TRAINING:
            waiting = False
        elif waiting and time.monotonic() - started > LONG_START_SECONDS:
            waiting = False
            session.console.say(STARTS_LATE)
        status = secondary
        if description["TrainingJobStatus"] in OVER:
            break
        session.backend.patience.sleep(session.backend.patience.seconds)
    _report(session.console, description, time.monotonic() - started)
    return description


def describe(session: Session, name: str) -> dict[str, Any]:
    """What the service says of a job."""
    description: dict[str, Any] = session.sagemaker.describe_training_job(TrainingJobName=name)
    return description


def _report(console: Console, description: Mapping[str, Any], seconds: float) -> None:
    name, status = description["TrainingJobName"], description["TrainingJobStatus"]
    if status == "Failed":
        reason = description.get("FailureReason", "SageMaker gives no reason").strip()
        raise UserError(
            f"{name} failed: {reason}{advice(description)} "
            "`./launch.py logs` shows what it printed."
        )
    console.say(f"{name}: {status.lower()} after {duration(seconds)}.")


def advice(description: Mapping[str, Any]) -> str:
    """What to try after a failure that is known."""
    reason = str(description.get("FailureReason", ""))
    known = {
        "pretrained weights": " Try --set weights=none trainable=all, or give --pretrained FILE.",
        "out of memory": " Try --set batch-size=16.",
        "exit code 137": " It was killed, most likely for memory: try --set batch-size=16.",
        "exit code -9": " It was killed, most likely for memory: try --set batch-size=16.",
        "CapacityError": " Try again later, or another --instance-type.",
        "InternalServerError": " Start it again: this was not the job's own fault.",
        "Data download failed": " Check --data.",
    }
    return next((text for mark, text in known.items() if mark in reason), "")


def final_metrics(description: Mapping[str, Any]) -> dict[str, float]:
    """The last value of each metric that the service read in the log."""
    return {
        entry["MetricName"]: float(entry["Value"])
        for entry in description.get("FinalMetricDataList", ())
    }


def artifact(session: Session, name: str) -> str:
    """The address of a job's `model.tar.gz`. Raises UserError where it made none."""
    description = session.sagemaker.describe_training_job(TrainingJobName=name)
    status = description["TrainingJobStatus"]
    address = description.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if status not in OVER:
        raise UserError(
            f"{name} is still under way ({status}); wait with `./launch.py logs --follow`."
        )
    if not address or status == "Failed":
        raise UserError(f"{name} made no model: it has {status.lower()}. Train again first.")
    return str(address)
