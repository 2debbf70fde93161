"""Logs: all streams, in the order of time, to the end of what there is."""

import time
from typing import Any

import pytest
from launcher_workspace import ROLE, Workspace, aws

from launcher import backends
from launcher.logs import LogReader, endpoint_group
from launcher.waiting import Patience

pytest_plugins = ("launcher_fixtures", "launcher_moto")

GROUP = endpoint_group("kennel")
NOW = int(time.time())


class Pages:
    """CloudWatch with one stream whose pages are given; the last token is repeated."""

    def __init__(self, *pages: list[str]) -> None:
        self.pages = list(pages)

    def describe_log_streams(self, **_: Any) -> dict[str, Any]:
        return {"logStreams": [{"logStreamName": "AllTraffic/i-1"}]}

    def get_log_events(self, **request: Any) -> dict[str, Any]:
        place = int(request.get("nextToken", "0"))
        lines = self.pages[place] if place < len(self.pages) else []
        events = [{"timestamp": place, "message": f"{line}\n"} for line in lines]
        return {"events": events, "nextForwardToken": str(min(place + 1, len(self.pages)))}


def print_lines(stream: str, *printed: tuple[int, str]) -> None:
    """Put lines, each with its second from now, into moto's CloudWatch."""
    logs = aws("logs")
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    logs.put_log_events(
        logGroupName=GROUP,
        logStreamName=stream,
        logEvents=[
            {"timestamp": (NOW + second) * 1000, "message": text} for second, text in printed
        ],
    )


def test_an_empty_page_is_not_the_end() -> None:
    pages = Pages(["first"], [], [], ["last"], [])
    reader = LogReader(pages, GROUP, "")
    assert list(reader.new_lines()) == ["first", "last"]
    assert list(reader.new_lines()) == []
    pages.pages += [[], ["later"]]
    assert list(reader.new_lines()) == ["later"]
    assert reader.last_lines(2) == ["last", "later"]


def test_lines_of_several_machines_come_in_the_order_of_time(cloud: Workspace) -> None:
    reader = LogReader(aws("logs"), GROUP, "")
    assert list(reader.new_lines()) == []
    assert reader.last_lines(3) == []
    aws("logs").create_log_group(logGroupName=GROUP)
    print_lines("AllTraffic/i-a", (-40, "a starts"), (-10, "a fails"))
    print_lines("AllTraffic/i-b", (-60, "b starts"), (-20, "b fails"))
    answer = cloud.run("logs", "--endpoint", "kennel", "--json")
    in_order = ["i-b: b starts", "i-a: a starts", "i-b: b fails", "i-a: a fails"]
    assert answer.json["lines"] == in_order
    assert reader.last_lines(3) == in_order[1:]
    assert reader.last_lines(12, NOW - 30) == in_order[2:]
    assert reader.last_lines(12, NOW - 15) == ["a fails"]


def test_more_streams_than_one_answer_holds_are_read(cloud: Workspace) -> None:
    aws("logs").create_log_group(logGroupName=GROUP)
    for number in range(60):
        print_lines(f"AllTraffic/i-{number:02}", (number - 100, f"line {number}"))
    lines = list(LogReader(aws("logs"), GROUP, "").new_lines())
    assert lines == [f"i-{number:02}: line {number}" for number in range(60)]


def test_an_endpoints_log_is_followed_until_it_is_gone(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sagemaker = aws("sagemaker")
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": "i"}, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[variant | {"InstanceType": "ml.m5.large"}]
    )
    sagemaker.create_endpoint(EndpointName="kennel", EndpointConfigName="c")
    aws("logs").create_log_group(logGroupName=GROUP)
    print_lines("AllTraffic/i-a", (-3, "first"))
    waits = iter(("second", "third", None))

    def meanwhile(_: float) -> None:
        line = next(waits)
        if line:
            aws("logs").put_log_events(
                logGroupName=GROUP,
                logStreamName="AllTraffic/i-a",
                logEvents=[{"timestamp": NOW * 1000, "message": line}],
            )
        else:
            sagemaker.delete_endpoint(EndpointName="kennel")

    monkeypatch.setattr(backends, "Patience", lambda seconds: Patience(seconds, meanwhile))
    answer = cloud.run("logs", "--endpoint", "kennel", "--follow", "--json")
    assert answer.json["lines"] == ["first", "second", "third"]
