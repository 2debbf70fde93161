"""Thousands of requests that nobody should send: no 5xx, no crash, no hang, no memory lost.

`make fuzz` sends 50,000 and more; `make test` as many as a few seconds allow.
"""

import threading
import time
from pathlib import Path

import pytest
import serving_artifacts
from serving_fuzz import Fuzzer, Request

from container.serving.models import memory

ALLOWED = {200, 400, 406, 413, 415}
SLOWEST_SECONDS = 5.0
"""For one request of at most three small images, on a machine that does much else."""
WARM_UP = 0.5
"""Share of the requests after which memory must no longer grow."""
GROWTH_MB = 40


def resident() -> float:
    """MB of memory that this process has, without what the allocator keeps for later."""
    memory.give_back()
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if "VmRSS" in line).split()[1]) / 1024


def test_an_onslaught(pytestconfig: pytest.Config) -> None:
    count = int(pytestconfig.getoption("--fuzz-requests"))
    threads = threading.active_count()  # other tests' servers may have left theirs
    client = serving_artifacts.client()
    faults: list[tuple[int, Request]] = []
    slowest, warm = 0.0, 0.0
    statuses: dict[int, int] = {}
    for number, request in zip(range(count), Fuzzer(seed=count), strict=False):
        started = time.monotonic()
        response = client.post(
            "/invocations",
            data=request.body,
            content_type=request.content_type,
            headers=request.headers,
        )
        slowest = max(slowest, time.monotonic() - started)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        if response.status_code not in ALLOWED:
            faults.append((response.status_code, request))
        elif response.status_code != 200:
            assert list(response.get_json()) == ["error"]
        if number == int(count * WARM_UP):
            warm = resident()
    growth = resident() - warm
    print(f"{count} requests: {statuses}; slowest {slowest:.2f} s; memory {growth:+.1f} MB")
    assert faults == []
    assert statuses[200] > count / 20, "most mutations must leave something to decode"
    assert statuses[400] > count / 20
    assert slowest < SLOWEST_SECONDS
    assert growth < GROWTH_MB
    assert threading.active_count() < threads + 10
