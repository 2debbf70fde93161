"""The CloudWatch Logs client's methods that are called, for logs on this machine."""

import contextlib
from datetime import datetime
from pathlib import Path
from typing import Any

from launcher.local.jobs import ENDPOINT, TRAINING_JOB, TRANSFORM_JOB, JobsFolder, client_error

_GROUPS = {
    "/aws/sagemaker/TrainingJobs": TRAINING_JOB,
    "/aws/sagemaker/TransformJobs": TRANSFORM_JOB,
}
_ENDPOINTS = "/aws/sagemaker/Endpoints/"


class LocalLogs:
    """Reads the files that jobs and endpoints print to."""

    def __init__(self, folder: JobsFolder) -> None:
        self.folder = folder

    def describe_log_streams(self, **request: Any) -> dict[str, Any]:
        """The streams of a group whose names begin with a prefix."""
        group, prefix = request["logGroupName"], request.get("logStreamNamePrefix", "")
        if group.startswith(_ENDPOINTS):
            path = self._path(group, "AllTraffic/local")
            return {"logStreams": [{"logStreamName": "AllTraffic/local"}] if path.exists() else []}
        name = prefix.split("/")[0]
        path = self._path(group, f"{name}/algo-1")
        return {"logStreams": [{"logStreamName": f"{name}/algo-1"}] if path.exists() else []}

    def get_log_events(self, **request: Any) -> dict[str, Any]:
        """The lines from where an earlier answer ended, by its token."""
        path = self._path(request["logGroupName"], request["logStreamName"])
        start = int(request.get("nextToken", "f/0").removeprefix("f/"))
        data = b""
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(start)
            data = file.read()
        # A line that is still being written is left for the next call.
        whole = data[: data.rfind(b"\n") + 1]
        stamp = int(datetime.now().timestamp() * 1000)
        return {
            "events": [
                {"timestamp": stamp, "message": line.decode("utf-8", "replace")}
                for line in whole.splitlines()
            ],
            "nextForwardToken": f"f/{start + len(whole)}",
        }

    def _path(self, group: str, stream: str) -> Path:
        if group.startswith(_ENDPOINTS):
            return self.folder.directory(ENDPOINT, group.removeprefix(_ENDPOINTS)) / "log.txt"
        if group not in _GROUPS:
            message = "The specified log group does not exist."
            raise client_error("ResourceNotFoundException", message, "GetLogEvents")
        return self.folder.directory(_GROUPS[group], stream.partition("/")[0]) / "log.txt"
