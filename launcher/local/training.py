"""Training jobs on this machine."""

import os
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from launcher import records
from launcher.api import Call, check
from launcher.local import processes
from launcher.local.engines import engine
from launcher.local.job_log import final_metrics
from launcher.local.jobs import STOP, TRAINING_JOB, JobsFolder, client_error, moment
from launcher.local.process import search_path

START_PATIENCE = timedelta(seconds=10)
_OVER = ("Completed", "Failed", "Stopped")


class TrainingJobs:
    """The client's methods about training jobs."""

    folder: JobsFolder
    engine_name: str

    def create_training_job(self, **request: Any) -> dict[str, Any]:
        """Start a job: a supervisor of its own, which outlives this process."""
        check(Call("sagemaker", "CreateTrainingJob", request), local=True)
        most = engine(self.engine_name).most_hosts
        if request["ResourceConfig"]["InstanceCount"] > most:
            machines = "one machine" if most == 1 else f"at most {most} hosts"
            message = (
                f"--on {self.engine_name} trains on {machines}: change --instances, or take "
                "--on docker or --on sagemaker."
            )
            raise client_error("ValidationException", message, "CreateTrainingJob")
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
        if "FinalMetricDataList" not in answer and (
            metrics := final_metrics(directory, record["request"])
        ):
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
        (directory / STOP).touch()
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
    identity = processes.start(
        [sys.executable, "-m", module, str(directory)],
        environment={**os.environ, "PYTHONPATH": search_path()},
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
    progress = records.read(directory / "progress.json")
    if progress.get("TrainingJobStatus") in _OVER:
        return progress
    runs = is_supervised(directory, record)
    # Read after looking: a supervisor that has just ended has written its last word.
    progress = records.read(directory / "progress.json")
    status = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting", **progress}
    if runs or status["TrainingJobStatus"] in _OVER:
        return status
    run = records.read(directory / "run.json")
    engine(record["engine"]).stop_train(run, directory / "opt-ml")
    return {
        **status,
        "TrainingJobStatus": "Failed",
        "SecondaryStatus": "Failed",
        "FailureReason": "InternalServerError: the process that looked after this job is gone, as "
        f"after a restart of the machine; {directory / 'supervisor.txt'} may say more.",
    }
