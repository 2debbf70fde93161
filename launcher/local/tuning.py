"""Tuning jobs on this machine."""

from collections import Counter
from typing import Any

from launcher import records
from launcher.api import Call, check
from launcher.local.engines import engine
from launcher.local.jobs import STOP, TRAINING_JOB, TUNING_JOB, JobsFolder, client_error, moment
from launcher.local.training import TrainingJobs, is_supervised, supervise

_OVER = ("Completed", "Failed", "Stopped")
_COUNTERS = {
    "Completed": "Completed",
    "InProgress": "InProgress",
    "Stopping": "InProgress",
    "Failed": "NonRetryableError",
    "Stopped": "Stopped",
}


class TuningJobs(TrainingJobs):
    """The client's methods about tuning jobs."""

    folder: JobsFolder
    engine_name: str

    def create_hyper_parameter_tuning_job(self, **request: Any) -> dict[str, Any]:
        """Start a tuning: a process of its own, which starts the trials."""
        check(Call("sagemaker", "CreateHyperParameterTuningJob", request), local=True)
        parents = request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", ())
        for parent in parents:
            name = parent["HyperParameterTuningJobName"]
            self.folder.find(TUNING_JOB, name, "CreateHyperParameterTuningJob")
        specification = request["TrainingJobDefinition"]["AlgorithmSpecification"]
        engine(self.engine_name).ready(specification["TrainingImage"])
        directory = self.folder.create(TUNING_JOB, request, engine=self.engine_name)
        supervise("launcher.local.tuner", directory)
        name = request["HyperParameterTuningJobName"]
        return {"HyperParameterTuningJobArn": self.folder.arn(TUNING_JOB, name)}

    def describe_hyper_parameter_tuning_job(self, **request: Any) -> dict[str, Any]:
        """What was asked for, how far it has come, and the best trial."""
        name = request["HyperParameterTuningJobName"]
        record = self.folder.find(TUNING_JOB, name, "DescribeHyperParameterTuningJob")
        progress = self._tuning_progress(name, record)
        trials = self._trials(name)
        counts = Counter(_COUNTERS[trial["TrainingJobStatus"]] for trial in trials)
        answer = {
            **record["request"],
            "HyperParameterTuningJobArn": record["HyperParameterTuningJobArn"],
            "CreationTime": moment(record["CreationTime"]),
            "HyperParameterTuningJobStatus": progress["status"],
            "TrainingJobStatusCounters": dict(counts),
        }
        if "reason" in progress:
            answer["FailureReason"] = progress["reason"]
        if progress.get("best"):
            best = (trial for trial in trials if trial["TrainingJobName"] == progress["best"])
            answer["BestTrainingJob"] = next(best)
        return answer

    def list_training_jobs_for_hyper_parameter_tuning_job(self, **request: Any) -> dict[str, Any]:
        """Every trial so far."""
        name = request["HyperParameterTuningJobName"]
        self.folder.find(TUNING_JOB, name, "ListTrainingJobsForHyperParameterTuningJob")
        return {"TrainingJobSummaries": self._trials(name)}

    def stop_hyper_parameter_tuning_job(self, **request: Any) -> dict[str, Any]:
        """Ask a tuning to stop, its running trials with it."""
        name = request["HyperParameterTuningJobName"]
        record = self.folder.find(TUNING_JOB, name, "StopHyperParameterTuningJob")
        if self._tuning_progress(name, record)["status"] in _OVER:
            message = f"The tuning job {name!r} is over and cannot be stopped."
            raise client_error("ValidationException", message, "StopHyperParameterTuningJob")
        (self.folder.directory(TUNING_JOB, name) / STOP).touch()
        return {}

    def list_hyper_parameter_tuning_jobs(self, **request: Any) -> dict[str, Any]:
        """Every tuning, newest first."""
        members = (
            "HyperParameterTuningJobName",
            "HyperParameterTuningJobArn",
            "HyperParameterTuningJobStatus",
            "CreationTime",
        )
        found = []
        for record in self.folder.all(TUNING_JOB):
            name = record["request"]["HyperParameterTuningJobName"]
            job = self.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
            found.append({member: job[member] for member in members})
        return {"HyperParameterTuningJobSummaries": found}

    def _tuning_progress(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        directory = self.folder.directory(TUNING_JOB, name)
        runs = is_supervised(directory, record)
        # Read after looking: a tuner that has just ended has written its last word.
        progress = {"status": "InProgress", **records.read(directory / "progress.json")}
        if runs or progress["status"] in _OVER:
            return progress
        for trial in self._trials(name):
            if trial["TrainingJobStatus"] == "InProgress":
                self.stop_training_job(TrainingJobName=trial["TrainingJobName"])
        reason = "the process that looked after this tuning is gone; its running trials are stopped"
        return {**progress, "status": "Failed", "reason": f"InternalServerError: {reason}."}

    def _trials(self, name: str) -> list[dict[str, Any]]:
        directory = self.folder.directory(TUNING_JOB, name)
        tuned = records.read(directory / "progress.json").get("tuned", {})
        record = self.folder.find(TUNING_JOB, name, "ListTrainingJobs")
        goal = record["request"]["HyperParameterTuningJobConfig"][
            "HyperParameterTuningJobObjective"
        ]
        found = []
        for trial, values in tuned.items():
            job = self.describe_training_job(TrainingJobName=trial)
            summary = {
                "TrainingJobName": trial,
                "TrainingJobArn": self.folder.arn(TRAINING_JOB, trial),
                "CreationTime": job["CreationTime"],
                "TrainingJobStatus": job["TrainingJobStatus"],
                "TunedHyperParameters": values,
            }
            for member in ("TrainingStartTime", "TrainingEndTime", "FailureReason"):
                if member in job:
                    summary[member] = job[member]
            for metric in job.get("FinalMetricDataList", ()):
                if metric["MetricName"] == goal["MetricName"]:
                    summary["FinalHyperParameterTuningJobObjectiveMetric"] = {
                        "Type": goal["Type"],
                        "MetricName": metric["MetricName"],
                        "Value": metric["Value"],
                    }
            found.append(summary)
        return found
