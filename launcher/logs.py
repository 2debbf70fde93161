"""The lines that jobs and endpoints print, from CloudWatch Logs or what stands in for it."""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from launcher.refusals import is_missing

TRAINING_JOBS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_JOBS = "/aws/sagemaker/TransformJobs"


def endpoint_group(name: str) -> str:
    """The log group of one endpoint."""
    return f"/aws/sagemaker/Endpoints/{name}"


class LogReader:
    """Reads a log from where it was left."""

    def __init__(self, client: Any, group: str, prefix: str) -> None:
        self.client = client
        self.group = group
        self.prefix = prefix
        self._tokens: dict[str, str] = {}

    def new_lines(self) -> Iterator[str]:
        """What was printed since the last call; nothing where there is no log yet."""
        try:
            answer = self.client.describe_log_streams(
                logGroupName=self.group,
                **({"logStreamNamePrefix": self.prefix} if self.prefix else {}),
            )
            streams = sorted(entry["logStreamName"] for entry in answer["logStreams"])
            for stream in streams:
                for line in self._stream_lines(stream):
                    # With several hosts, each line says whose it is.
                    yield f"{stream.split('/')[-1]}: {line}" if len(streams) > 1 else line
        except ClientError as error:
            if not is_missing(error):
                raise

    def _stream_lines(self, stream: str) -> Iterator[str]:
        while True:
            token = self._tokens.get(stream)
            answer = self.client.get_log_events(
                logGroupName=self.group,
                logStreamName=stream,
                startFromHead=True,
                **({"nextToken": token} if token else {}),
            )
            for event in answer["events"]:
                yield event["message"].rstrip("\n")
            # CloudWatch repeats the token at the end of what there is; pages may be empty.
            if answer["nextForwardToken"] == token or not answer["events"]:
                self._tokens[stream] = answer["nextForwardToken"]
                return
            self._tokens[stream] = answer["nextForwardToken"]
