"""Training jobs on this machine."""

import os
import re
import signal
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from launcher import records
from launcher.api import Call, check
from launcher.local import processes
from launcher.local.engines import engine
from launcher.local.jobs import TRAINING_JOB, JobsFolder, client_error, moment
from launcher.local.process import REPOSITORY

START_PATIENCE = timedelta(seconds=10)
_OVER = ("Completed", "Failed", "Stopped")


class TrainingJobs:
    """The client's methods about training jobs."""

    folder: JobsFolder
    engine_name: str

    def create_training_job(self, **request: Any) -> dict[str, Any]:
        """Start a job: a supervisor of its own, which outlives this process."""
        check(Call("sagemaker", "CreateTrainingJob", request), local=True)
        engine(self.engine_name).ready(request["AlgorithmSpecification"]["TrainingImage"])
        directory = self.folder.create(TRAINING_JOB, request, engine=self.engine_name)
        supervise("launcher.local.supervisor", directory)
        return {"TrainingJobArn": self.folder.arn(TRAINING_JOB, request["TrainingJobName"])}

    def describe_training_job(self, **request: Any) -> dict[str, Any]:
        """What was asked for, and how far it has come."""
        name = request["TrainingJobName"]
        record = self.folder.find(TRAINING_JOB, name, "DescribeTrainingJob")
        directory = self.folder.directory(TRAINING_JOB, name)
        progress = _progress(directory, record)
        answer = {
            **record["request"],
            "TrainingJobArn": record["TrainingJobArn"],
            "CreationTime": moment(record["CreationTime"]),
            **progress,
        }
        for member in ("TrainingStartTime", "TrainingEndTime"):
            if member in answer:
                answer[member] = moment(answer[member])
        if metrics := _metrics(directory, record["request"]):
            answer["FinalMetricDataList"] = metrics
        return answer

    def stop_training_job(self, **request: Any) -> dict[str, Any]:
        """Ask a job to stop; it keeps the model that it has."""
        name = request["TrainingJobName"]
        record = self.folder.find(TRAINING_JOB, name, "StopTrainingJob")
        directory = self.folder.directory(TRAINING_JOB, name)
        if _progress(directory, record)["TrainingJobStatus"] in _OVER:
            message = f"The training job {name!r} is over and cannot be stopped."
            raise client_error("ValidationException", message, "StopTrainingJob")
        if supervisor := supervisor_of(directory):
            supervisor.signal(signal.SIGTERM)
        return {}

    def list_training_jobs(self, **request: Any) -> dict[str, Any]:
        """Every job, newest first."""
        found = [
            self.describe_training_job(TrainingJobName=record["request"]["TrainingJobName"])
            for record in self.folder.all(TRAINING_JOB)
        ]
        members = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingJobStatus")
        return {
            "TrainingJobSummaries": [
                {member: job[member] for member in members}
                for job in found
                if request.get("NameContains", "") in job["TrainingJobName"]
            ]
        }


def supervise(module: str, directory: Path) -> None:
    """Start a supervisor for a job's directory, and note which process it is."""
    search = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    identity = processes.start(
        [sys.executable, "-m", module, str(directory)],
        environment={**os.environ, "PYTHONPATH": search},
        log=directory / "supervisor.txt",
        directory=directory,
    )
    records.write(directory / "supervisor.json", identity.as_record())


def is_supervised(directory: Path, record: Mapping[str, Any]) -> bool:
    """Whether a job's supervisor is there, or may still come."""
    supervisor = supervisor_of(directory)
    if supervisor is None:
        # The launcher may have been killed between the record and the start.
        return datetime.now(timezone.utc) - moment(record["CreationTime"]) < START_PATIENCE
    processes.reap(supervisor.pid)
    return supervisor.runs()


def supervisor_of(directory: Path) -> processes.Identity | None:
    """The process that looks after a job."""
    return processes.Identity.read(records.read(directory / "supervisor.json"))


def _progress(directory: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the supervisor says; where it is gone, that the job failed with it."""
    runs = is_supervised(directory, record)
    # Read after looking: a supervisor that has just ended has written its last word.
    progress = records.read(directory / "progress.json")
    status = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting", **progress}
    if runs or status["TrainingJobStatus"] in _OVER:
        return status
    engine(record["engine"]).stop_train(records.read(directory / "run.json"))
    return {
        **status,
        "TrainingJobStatus": "Failed",
        "SecondaryStatus": "Failed",
        "FailureReason": "InternalServerError: the process that looked after this job is gone, as "
        f"after a restart of the machine; {directory / 'supervisor.txt'} may say more.",
    }


def _metrics(directory: Path, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The last value of each metric in the log, found by the request's own expressions."""
    log = read_log(directory)
    found = []
    for definition in request["AlgorithmSpecification"].get("MetricDefinitions", ()):
        if values := re.findall(definition["Regex"], log):
            found.append({"MetricName": definition["Name"], "Value": float(values[-1])})
    return found


def read_log(directory: Path) -> str:
    """All that a job has printed."""
    path = directory / "log.txt"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
