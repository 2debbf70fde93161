"""Batch transform jobs on this machine."""

import contextlib
import signal
from typing import Any

from container.errors import UserError
from launcher import records
from launcher.api import Call, check
from launcher.local.engines import engine
from launcher.local.jobs import MODEL, SERVER, TRANSFORM_JOB, JobsFolder, client_error, moment
from launcher.local.training import is_supervised, supervise, supervisor_of

_OVER = ("Completed", "Failed", "Stopped")


class TransformJobs:
    """The client's methods about transform jobs."""

    folder: JobsFolder
    engine_name: str

    def create_transform_job(self, **request: Any) -> dict[str, Any]:
        """Start a job: a process of its own, which starts a server and sends it every image."""
        check(Call("sagemaker", "CreateTransformJob", request), local=True)
        self.folder.find(MODEL, request["ModelName"], "CreateTransformJob")
        directory = self.folder.create(TRANSFORM_JOB, request, engine=self.engine_name)
        supervise("launcher.local.transformer", directory)
        name = request["TransformJobName"]
        return {"TransformJobArn": self.folder.arn(TRANSFORM_JOB, name)}

    def describe_transform_job(self, **request: Any) -> dict[str, Any]:
        """What was asked for, and how far it has come."""
        name = request["TransformJobName"]
        record = self.folder.find(TRANSFORM_JOB, name, "DescribeTransformJob")
        directory = self.folder.directory(TRANSFORM_JOB, name)
        runs = is_supervised(directory, record)
        if not runs and (server := records.read(directory / SERVER)):
            # What cannot be stopped now is stopped when somebody looks again.
            with contextlib.suppress(UserError):
                engine(server["engine"]).stop_server(server, directory / "opt-ml")
                (directory / SERVER).unlink(missing_ok=True)
        progress = {
            "TransformJobStatus": "InProgress",
            **records.read(directory / "progress.json"),
        }
        if not runs and progress["TransformJobStatus"] not in _OVER:
            reason = "InternalServerError: the process that looked after this job is gone."
            progress |= {"TransformJobStatus": "Failed", "FailureReason": reason}
        return {
            **record["request"],
            "TransformJobArn": record["TransformJobArn"],
            "CreationTime": moment(record["CreationTime"]),
            **progress,
        }

    def stop_transform_job(self, **request: Any) -> dict[str, Any]:
        """Ask a job to stop."""
        name = request["TransformJobName"]
        if self.describe_transform_job(TransformJobName=name)["TransformJobStatus"] in _OVER:
            message = f"The transform job {name!r} is over and cannot be stopped."
            raise client_error("ValidationException", message, "StopTransformJob")
        if supervisor := supervisor_of(self.folder.directory(TRANSFORM_JOB, name)):
            supervisor.signal(signal.SIGTERM)
        return {}

    def list_transform_jobs(self, **request: Any) -> dict[str, Any]:
        """Every job, newest first."""
        found = [
            self.describe_transform_job(TransformJobName=record["request"]["TransformJobName"])
            for record in self.folder.all(TRANSFORM_JOB)
        ]
        members = ("TransformJobName", "TransformJobArn", "CreationTime", "TransformJobStatus")
        return {
            "TransformJobSummaries": [{member: job[member] for member in members} for job in found]
        }
