"""The lines that jobs and endpoints print, from CloudWatch Logs or what stands in for it."""

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from launcher.refusals import is_missing

TRAINING_JOBS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_JOBS = "/aws/sagemaker/TransformJobs"
LATE_SECONDS = 3600
"""How far behind CloudWatch may be with what it says of a stream's last line."""

Printed = tuple[str, Mapping[str, Any]]
"""A stream, and one event of it."""


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
        """What was printed since the last call, oldest first; nothing where there is no log yet."""
        try:
            streams = [entry["logStreamName"] for entry in self._streams()]
            events = [self._new_events(stream) for stream in streams]
            for printed in heapq.merge(*events, key=_when):
                yield _line(printed, several=len(streams) > 1)
        except ClientError as error:
            if not is_missing(error):
                raise

    def last_lines(self, count: int, since: float | None = None) -> list[str]:
        """The last lines printed since a moment (`time.time()`'s), whatever was read before."""
        try:
            streams = [
                entry["logStreamName"]
                for entry in self._streams()
                if since is None or not _ended_before(entry, since - LATE_SECONDS)
            ]
            start = {} if since is None else {"startTime": int(since * 1000)}
            events = [self._events_from(stream, start) for stream in streams]
            last = deque(heapq.merge(*events, key=_when), maxlen=count)
        except ClientError as error:
            if not is_missing(error):
                raise
            return []
        several = len({stream for stream, _ in last}) > 1
        return [_line(printed, several=several) for printed in last]

    def _streams(self) -> Iterator[Mapping[str, Any]]:
        """Every stream, by its name; an answer has 50."""
        given = {"logStreamNamePrefix": self.prefix} if self.prefix else {}
        token: dict[str, str] = {}
        while True:
            answer = self.client.describe_log_streams(logGroupName=self.group, **given, **token)
            yield from answer["logStreams"]
            if not answer.get("nextToken"):
                return
            token = {"nextToken": answer["nextToken"]}

    def _new_events(self, stream: str) -> Iterator[Printed]:
        for events, token in self._pages(stream, self._tokens.get(stream), {}):
            for event in events:
                yield stream, event
            self._tokens[stream] = token

    def _events_from(self, stream: str, start: Mapping[str, int]) -> Iterator[Printed]:
        for events, _ in self._pages(stream, None, start):
            for event in events:
                yield stream, event

    def _pages(
        self, stream: str, token: str | None, start: Mapping[str, int]
    ) -> Iterator[tuple[Sequence[Mapping[str, Any]], str]]:
        """Pages of events, each with the token of the next."""
        while True:
            answer = self.client.get_log_events(
                logGroupName=self.group,
                logStreamName=stream,
                startFromHead=True,
                **start,
                **({"nextToken": token} if token else {}),
            )
            following = answer["nextForwardToken"]
            yield answer["events"], following
            # A page may be empty with others after it: only a repeated token is the end.
            if following == token:
                return
            token = following


def _when(printed: Printed) -> int:
    return int(printed[1]["timestamp"])


def _line(printed: Printed, *, several: bool) -> str:
    """With several hosts, each line says whose it is."""
    stream, event = printed
    text = str(event["message"]).rstrip("\n")
    return f"{stream.split('/')[-1]}: {text}" if several else text


def _ended_before(stream: Mapping[str, Any], seconds: float) -> bool:
    return "lastIngestionTime" in stream and stream["lastIngestionTime"] < seconds * 1000
