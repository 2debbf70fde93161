"""`python -m launcher.local.tuner DIRECTORY`: one tuning job, from its first trial to its last.

Like a training job's supervisor it is a process of its own, and alone writes `progress.json`.
"""

import contextlib
import os
import re
import secrets
import signal
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
from botocore.exceptions import ClientError
from optuna.trial import TrialState

from launcher import records
from launcher.local import search
from launcher.local.client import LocalSageMaker
from launcher.local.engines import engine
from launcher.local.job_log import read_log
from launcher.local.jobs import STOP, JobsFolder

POLL_SECONDS = 0.05
_OVER = ("Completed", "Failed", "Stopped")


@dataclass
class Running:
    """One trial that trains."""

    name: str
    trial: optuna.Trial
    reported: int = 0
    stopped: bool = False


@dataclass
class Tuner:
    """One tuning job under way."""

    directory: Path
    client: LocalSageMaker
    request: dict[str, Any]
    tuned: dict[str, dict[str, str]] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    best: str | None = None
    best_value: float | None = None
    terminated: bool = False

    @property
    def stop_requested(self) -> bool:
        """Whether the search is to end early."""
        return self.terminated or (self.directory / STOP).exists()

    @property
    def config(self) -> dict[str, Any]:
        """How to search."""
        config: dict[str, Any] = self.request["HyperParameterTuningJobConfig"]
        return config

    @property
    def goal(self) -> dict[str, str]:
        """What to search for."""
        goal: dict[str, str] = self.config["HyperParameterTuningJobObjective"]
        return goal

    def say(self, status: str, **facts: Any) -> None:
        """Put the tuning's new state on disk."""
        content = {"status": status, "tuned": self.tuned, "best": self.best, **facts}
        records.write(self.directory / "progress.json", content)

    def run(self) -> None:
        """Start trials, several at a time, until there are enough."""
        space = search.space(self.config["ParameterRanges"])
        study = search.study(self.config)
        search.learn(study, space, self._earlier_trials())
        limits = self.config["ResourceLimits"]
        left = limits.get("MaxNumberOfTrainingJobs", search.combinations(self.config))
        longest = limits.get("MaxRuntimeInSeconds", float("inf"))
        deadline = time.monotonic() + longest
        self.say("InProgress")
        while left or self.running:
            if self.stop_requested or time.monotonic() > deadline:
                left = 0
                self._stop_all()
            while left and len(self.running) < limits["MaxParallelTrainingJobs"]:
                self._start(study.ask(space))
                left -= 1
            for entry in list(self.running):
                self._look_after(study, entry)
            time.sleep(POLL_SECONDS)
        if self.stop_requested:
            self.say("Stopped")
        elif self.best is None:
            reason = "No training job reported the objective metric."
            self.say("Failed", reason=f"{reason} {self._first_failure()}".strip())
        else:
            self.say("Completed")

    def _start(self, trial: optuna.Trial) -> None:
        prefix = self.request["HyperParameterTuningJobName"]
        name = f"{prefix}-{len(self.tuned) + 1:03}-{secrets.token_hex(4)}"
        values = {key: _text(value) for key, value in trial.params.items()}
        definition = self.request["TrainingJobDefinition"]
        request = {
            key: value for key, value in definition.items() if key != "StaticHyperParameters"
        }
        fixed = definition.get("StaticHyperParameters", {})
        objective = {"_tuning_objective_metric": self.goal["MetricName"]}
        self.client.create_training_job(
            **request,
            TrainingJobName=name,
            HyperParameters={**fixed, **values, **objective},
            Environment={**self.share_of_processors(), **definition.get("Environment", {})},
            Tags=self.request.get("Tags", []),
        )
        self.tuned[name] = values
        self.running.append(Running(name, trial))
        self.say("InProgress")

    def share_of_processors(self) -> dict[str, str]:
        """Trials side by side would be slower than one after the other if each took all."""
        parallel = self.config["ResourceLimits"]["MaxParallelTrainingJobs"]
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // parallel))}

    def _look_after(self, study: optuna.Study, entry: Running) -> None:
        description = self.client.describe_training_job(TrainingJobName=entry.name)
        status = description["TrainingJobStatus"]
        values = self._values(entry.name)
        for step in range(entry.reported, len(values)):
            entry.trial.report(values[step], step + 1)
        if len(values) > entry.reported and status not in _OVER and not entry.stopped:
            entry.reported = len(values)
            if entry.trial.should_prune():
                self._stop(entry)
        if status not in _OVER:
            return
        self.running.remove(entry)
        if status == "Failed" or not values:
            study.tell(entry.trial, state=TrialState.FAIL)
        elif entry.stopped:
            study.tell(entry.trial, state=TrialState.PRUNED)
        else:
            study.tell(entry.trial, values[-1])
        if values and status != "Failed":
            self._compare(entry.name, values[-1])
        self.say("InProgress")

    def _compare(self, name: str, value: float) -> None:
        sign = -1 if self.goal["Type"] == "Maximize" else 1
        # Of equals the one that started first, as in every ranking of trials.
        if self.best is None or (sign * value, name) < (sign * (self.best_value or 0.0), self.best):
            self.best, self.best_value = name, value

    def _values(self, name: str) -> list[float]:
        """The objective's values so far, one for each epoch."""
        definition = self.request["TrainingJobDefinition"]["AlgorithmSpecification"]
        expression = next(
            entry["Regex"]
            for entry in definition["MetricDefinitions"]
            if entry["Name"] == self.goal["MetricName"]
        )
        log = read_log(self.directory.parent.parent / "training-jobs" / name)
        return [float(text) for text in re.findall(expression, log)]

    def _stop(self, entry: Running) -> None:
        entry.stopped = True
        # It may have ended in the meantime.
        with contextlib.suppress(ClientError):
            self.client.stop_training_job(TrainingJobName=entry.name)

    def _stop_all(self) -> None:
        for entry in self.running:
            if not entry.stopped:
                self._stop(entry)

    def _earlier_trials(self) -> list[tuple[dict[str, str], float]]:
        found = []
        for parent in self.request.get("WarmStartConfig", {}).get(
            "ParentHyperParameterTuningJobs", ()
        ):
            answer = self.client.list_training_jobs_for_hyper_parameter_tuning_job(**parent)
            for summary in answer["TrainingJobSummaries"]:
                measured = summary.get("FinalHyperParameterTuningJobObjectiveMetric", {})
                if measured.get("MetricName") == self.goal["MetricName"]:
                    found.append((summary["TunedHyperParameters"], float(measured["Value"])))
        return found

    def _first_failure(self) -> str:
        for name in self.tuned:
            reason = self.client.describe_training_job(TrainingJobName=name).get("FailureReason")
            if reason:
                return f"The first to fail said: {reason}"
        return ""

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGTERM."""
        self.terminated = True


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def main(argv: list[str]) -> int:
    """Run the tuning of one directory."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    directory = Path(argv[0])
    record = records.read(directory / "record.json")
    client = LocalSageMaker(JobsFolder(directory.parent.parent), record["engine"])
    tuner = Tuner(directory, client, record["request"])
    signal.signal(signal.SIGTERM, tuner.ask_to_stop)
    log = directory / "fork-server.txt"
    with engine(record["engine"]).warm(tuner.share_of_processors(), log):
        tuner.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
