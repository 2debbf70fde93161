"""Tuning jobs: the request, the trials and their order, and watching one until it ends."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from container import metrics
from container.errors import UserError
from container.metrics import METRICS, Metric
from launcher import ranges, training
from launcher.api import Call
from launcher.console import duration
from launcher.names import tags
from launcher.ranges import Range, Values
from launcher.session import Session
from launcher.settings import Settings
from launcher.training import Place

STRATEGIES = ("Bayesian", "Random", "Hyperband", "Grid")
OVER = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    ranges: Sequence[Range]
    objective: Metric
    strategy: str = "Bayesian"
    jobs: int = 16
    parallel: int = 2
    early_stopping: bool = True
    epochs: int = 10
    """The most that Hyperband gives a trial."""
    warm_start: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """One training job of a tuning."""

    name: str
    status: str
    tuned: Mapping[str, str]
    objective: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Result:
    """A tuning that has come to an end, or is under way."""

    name: str
    metric: str
    direction: str
    trials: Sequence[Trial] = field(default_factory=tuple)

    @property
    def ranked(self) -> list[Trial]:
        """Trials that were measured, best first; a failed one made no model and does not count."""
        measured = [t for t in self.trials if t.objective is not None and t.status != "Failed"]
        sign = -1 if self.direction == "Maximize" else 1
        return sorted(measured, key=lambda trial: sign * (trial.objective or 0.0))


def objective(name: str) -> Metric:
    """The metric of that name. Raises UserError."""
    found = next((metric for metric in METRICS if metric.name == name), None)
    if found is None:
        known = ", ".join(metric.name for metric in METRICS)
        raise UserError(f"There is no metric {name!r}; known are {known}.")
    return found


def check(search: Search) -> None:
    """Refuse what the service would refuse. Raises UserError."""
    if not search.ranges:
        raise UserError("There is nothing to search: give --range NAME=LOW:HIGH.")
    if search.strategy == "Grid" and not all(isinstance(r, Values) for r in search.ranges):
        raise UserError(
            "Grid tries every combination, so every range must be a list, such as "
            "--range lr=0.001,0.01 batch-size=32,64."
        )
    if search.strategy == "Hyperband" and any(entry.name == "epochs" for entry in search.ranges):
        raise UserError(
            "Hyperband chooses the epochs itself, up to --epochs; leave out --range epochs."
        )
    if search.strategy == "Grid" and search.jobs < (all_of := ranges.combinations(search.ranges)):
        raise UserError(
            f"Grid tries every combination, which makes {all_of} trials, and --jobs allows "
            f"{search.jobs}: leave out --jobs, shorten the lists, or choose --strategy Random."
        )
    if search.jobs < 1 or not 1 <= search.parallel <= 100:
        raise UserError("--jobs must be at least 1, and --parallel from 1 to 100.")


def request(
    settings: Settings,
    name: str,
    place: Place,
    channels: Sequence[Mapping[str, Any]],
    fixed: Mapping[str, str],
    search: Search,
) -> dict[str, Any]:
    """`CreateHyperParameterTuningJob`. Raises UserError."""
    check(search)
    static = ranges.fixed_only(fixed, search.ranges)
    config: dict[str, Any] = {
        "Strategy": search.strategy,
        "HyperParameterTuningJobObjective": {
            "Type": search.objective.direction,
            "MetricName": search.objective.name,
        },
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": search.jobs,
            "MaxParallelTrainingJobs": min(search.parallel, search.jobs),
        },
        "ParameterRanges": ranges.as_request(search.ranges),
        "TrainingJobEarlyStoppingType": "Auto" if search.early_stopping else "Off",
        "RandomSeed": search.seed,
    }
    if search.strategy == "Hyperband":
        # Hyperband stops trials early by itself, and the service refuses to have it done twice.
        config["TrainingJobEarlyStoppingType"] = "Off"
        limits = {"MinResource": 1, "MaxResource": search.epochs}
        config["StrategyConfig"] = {"HyperbandStrategyConfig": limits}
        static = {**static, "epochs": str(search.epochs)}
    if search.strategy == "Grid":
        del config["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    given: dict[str, Any] = {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": {
            "StaticHyperParameters": static,
            "AlgorithmSpecification": {
                "TrainingImage": place.image,
                "TrainingInputMode": settings.input_mode,
                "MetricDefinitions": metrics.definitions(),
            },
            "RoleArn": place.role,
            "InputDataConfig": list(channels),
            "OutputDataConfig": {"S3OutputPath": place.output},
            "ResourceConfig": training.resources(settings),
            "StoppingCondition": {"MaxRuntimeInSeconds": settings.max_run},
        },
        "Tags": tags(settings.project),
    }
    if search.warm_start:
        given["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": [
                {"HyperParameterTuningJobName": parent} for parent in search.warm_start
            ],
            "WarmStartType": "TransferLearning",
        }
    return given


def call(given: Mapping[str, Any]) -> Call:
    """The request, addressed."""
    return Call("sagemaker", "CreateHyperParameterTuningJob", given)


def result(client: Any, name: str) -> Result:
    """The trials so far."""
    described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    return _result(client, described)


def _result(client: Any, described: Mapping[str, Any]) -> Result:
    name = described["HyperParameterTuningJobName"]
    goal = described["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    trials: list[Trial] = []
    token: dict[str, str] = {}
    while True:
        answer = client.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name, MaxResults=100, **token
        )
        trials += [_trial(summary) for summary in answer["TrainingJobSummaries"]]
        if not answer.get("NextToken"):
            break
        token = {"NextToken": answer["NextToken"]}
    return Result(name, goal["MetricName"], goal["Type"], sorted(trials, key=lambda t: t.name))


def _trial(summary: Mapping[str, Any]) -> Trial:
    measured = summary.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value")
    start, end = summary.get("TrainingStartTime"), summary.get("TrainingEndTime")
    return Trial(
        name=summary["TrainingJobName"],
        status=summary["TrainingJobStatus"],
        tuned={key: value.strip('"') for key, value in summary["TunedHyperParameters"].items()},
        objective=None if measured is None else float(measured),
        seconds=(end - start).total_seconds() if start and end else None,
    )


def watch(session: Session, name: str) -> Result:
    """Print each trial as it ends, with the best so far; the result.

    Raises:
        UserError: the tuning failed, or measured nothing.
    """
    seen: set[str] = set()
    started = time.monotonic()
    while True:
        described = session.sagemaker.describe_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name
        )
        found = _result(session.sagemaker, described)
        for trial in found.trials:
            if trial.status in OVER and trial.name not in seen:
                seen.add(trial.name)
                _tell(session, found, trial, len(seen))
        status = described["HyperParameterTuningJobStatus"]
        if status in OVER:
            break
        session.backend.patience.sleep(session.backend.patience.seconds)
    if status == "Failed" or not found.ranked:
        reason = described.get("FailureReason", "no trial reported its objective")
        raise UserError(
            f"{name} failed: {reason} `./launch.py logs --job TRIAL` shows what a trial printed."
        )
    session.console.say(f"{name}: {status.lower()} after {duration(time.monotonic() - started)}.")
    return found


def _tell(session: Session, found: Result, trial: Trial, count: int) -> None:
    value = "no objective" if trial.objective is None else f"{found.metric} {trial.objective:.4g}"
    values = " ".join(f"{name}={value}" for name, value in trial.tuned.items())
    best = found.ranked[:1] == [trial]
    note = "  ← best so far" if best else ""
    state = "" if trial.status == "Completed" else f" ({trial.status.lower()})"
    session.console.say(f"  {count:3}  {value}  {values}{state}{note}")


def winner(session: Session, name: str) -> tuple[Trial, dict[str, str]]:
    """The best trial of a tuning, and all hyperparameters that it was given.

    Raises:
        UserError: no trial was measured yet.
    """
    ranked = result(session.sagemaker, name).ranked
    if not ranked:
        raise UserError(f"{name} has measured no trial yet; see `./launch.py status`.")
    job = session.sagemaker.describe_training_job(TrainingJobName=ranked[0].name)
    values = {
        key: str(value).strip('"')
        for key, value in job["HyperParameters"].items()
        if not key.startswith(("_", "sagemaker_"))
    }
    return ranked[0], values
