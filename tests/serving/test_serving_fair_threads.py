"""The threads that requests of several images share: fairness, bounds, and what is counted."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import serving_artifacts
import serving_requests as bodies
from polling import until
from serving_artifacts import encoded, photograph

from container.serving import fair_threads, invocation
from container.serving.engines.turns import SMOOTHING, OverloadedError
from container.serving.fair_threads import FairThreads
from container.serving.inputs.items import Item


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What work waits for; open at the end, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


def test_each_is_answered_in_its_place() -> None:
    given = list(range(50))
    assert FairThreads(3).map(lambda one: one * 2, given, patience=1) == [2 * one for one in given]


def test_a_second_request_is_not_behind_all_of_the_first(gate: threading.Event) -> None:
    shared = FairThreads(1)
    order: list[str] = []

    def work(name: str) -> None:
        assert gate.wait(10)
        order.append(name)

    with ThreadPoolExecutor() as pool:
        pool.submit(shared.map, work, ["long"] * 100, patience=60)
        until(lambda: shared._queued == fair_threads.AHEAD - 1)
        pool.submit(shared.map, work, ["short"] * 2, patience=60)
        until(lambda: shared._queued == fair_threads.AHEAD + 1)
        gate.set()
    assert order.index("short") <= fair_threads.AHEAD
    assert order[:10].count("short") == 2


def test_who_would_wait_too_long_is_turned_away_and_what_waits_is_counted(
    gate: threading.Event,
) -> None:
    shared = FairThreads(1)
    shared.map(lambda one: threading.Event().wait(0.1), [1, 2], patience=60)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(shared.map, lambda one: gate.wait(10), [1] * 9, patience=60)
        until(lambda: shared.waiting == 8)
        with pytest.raises(OverloadedError) as caught:
            shared.map(lambda one: one, [1, 2], patience=0.001)
        assert caught.value.retry_after == 1
        assert shared.waiting == 8
        gate.set()
        assert held.result(10) == [True] * 9
    assert shared.waiting == 0


def test_the_average_of_what_an_image_takes_follows_the_newest_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = itertools.count()  # each image takes a second by this clock
    monkeypatch.setattr(fair_threads, "time", SimpleNamespace(monotonic=lambda: next(now)))
    shared = FairThreads(1)
    shared.map(lambda one: one, [1, 2, 3], patience=1)
    assert shared._average == pytest.approx(1 - (1 - SMOOTHING) ** 3)


def test_a_failure_leaves_nothing_behind() -> None:
    def fail(one: int) -> int:
        raise OverloadedError(1)

    shared = FairThreads(2)
    with pytest.raises(OverloadedError):
        shared.map(fail, list(range(100)), patience=60)
    until(lambda: shared.waiting == shared._queued == 0)


def test_a_list_of_one_image_waits_for_no_list(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    busy = FairThreads(1)
    monkeypatch.setattr(serving_artifacts.loaded(), "threads", busy)
    client = serving_artifacts.client()
    with ThreadPoolExecutor() as pool:
        pool.submit(busy.map, lambda one: gate.wait(30), [1] * 9, patience=60)
        until(lambda: busy.waiting == 8)
        one = bodies.document(encoded(photograph()))
        answered = client.post("/invocations", data=one, content_type="application/json")
        assert len(answered.get_json()) == 1
        assert "kennel_images_waiting 8.0" in client.get("/metrics").text
        gate.set()


def test_several_images_are_answered_503_where_there_is_too_much_to_do(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    busy = FairThreads(1)
    monkeypatch.setattr(serving_artifacts.loaded(), "threads", busy)
    monkeypatch.setattr(busy, "_average", 100.0)
    with ThreadPoolExecutor() as pool:
        pool.submit(busy.map, lambda one: gate.wait(30), [1] * 9, patience=1000)
        until(lambda: busy.waiting == 8 and busy._queued)
        two = bodies.document(*[encoded(photograph())] * 2)
        refused = serving_artifacts.client().post(
            "/invocations", data=two, content_type="application/json"
        )
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 100
        gate.set()


def test_predictions_of_several_are_those_of_one() -> None:
    model = serving_artifacts.loaded()
    items = [Item(np.asarray(photograph(seed))) for seed in range(7)]
    together = invocation.predict_all(model, items, 60)
    for item, outcome in zip(items, together, strict=True):
        assert np.allclose(outcome, invocation.predict(model, item), atol=1e-5)  # type: ignore[arg-type]
