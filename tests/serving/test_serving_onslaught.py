"""Thousands of requests that nobody should send: no 5xx, no crash, no hang, no memory lost.

`make fuzz` sends 50,000 and more; `make test` as many as a few seconds allow.
"""

import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import serving_artifacts
from serving_fuzz import Fuzzer, Request

from container.allocation import give_back_freed_memory, share_one_heap

ALLOWED = {200, 400, 406, 413, 415}
SLOWEST_SECONDS = 5.0
"""For one request of at most three small images, on a machine that does much else."""
WARM_UP = 0.5
"""Share of the requests after which memory must no longer grow."""
GROWTH_MB = 10
MOST_THREADS = 10


@dataclass
class Outcome:
    """What thousands of requests did to a process."""

    faults: list[tuple[int, Request]] = field(default_factory=list)
    unexplained: list[Request] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    slowest: float = 0.0
    """Seconds."""
    growth: float = 0.0
    """MB."""
    threads: int = 0


def resident() -> float:
    """MB of memory that this process has, without what the allocator keeps for later."""
    assert give_back_freed_memory()
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if "VmRSS" in line).split()[1]) / 1024


def onslaught(count: int) -> Outcome:
    """Send so many; in a process of its own, whose memory and threads no other test has touched."""
    share_one_heap()
    client = serving_artifacts.client()
    outcome = Outcome()
    warm = 0.0
    for number, request in zip(range(count), Fuzzer(seed=count), strict=False):
        started = time.monotonic()
        response = client.post(
            "/invocations",
            data=request.body,
            content_type=request.content_type,
            headers=request.headers,
        )
        outcome.slowest = max(outcome.slowest, time.monotonic() - started)
        status = response.status_code
        outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
        if status not in ALLOWED:
            outcome.faults.append((status, request))
        elif status != 200 and list(response.get_json()) != ["error"]:
            outcome.unexplained.append(request)
        if number == int(count * WARM_UP):
            warm = resident()
    outcome.growth = resident() - warm
    outcome.threads = threading.active_count()
    return outcome


def test_an_onslaught(pytestconfig: pytest.Config) -> None:
    count = int(pytestconfig.getoption("--fuzz-requests"))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        outcome = pool.submit(onslaught, count).result()
    print(
        f"{count} requests: {outcome.statuses}; slowest {outcome.slowest:.2f} s; "
        f"memory {outcome.growth:+.1f} MB"
    )
    assert outcome.faults == []
    assert outcome.unexplained == []
    assert outcome.statuses[200] > count / 20, "most mutations must leave something to decode"
    assert outcome.statuses[400] > count / 20
    assert outcome.slowest < SLOWEST_SECONDS
    assert outcome.growth < GROWTH_MB
    assert outcome.threads < MOST_THREADS
