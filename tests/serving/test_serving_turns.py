"""Turns: order of arrival, bounds, patience, and what is foretold."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polling import until

from container.serving.engines.turns import OverloadedError, Turns


def test_an_idle_lane_is_given_at_once_and_given_back() -> None:
    turns = Turns(2, limit=0, patience=1)
    for _ in range(3):
        with turns, turns:
            assert (turns.running, turns.waiting, turns.present) == (2, 0, 2)
    assert turns.present == 0


def test_turns_come_in_order_of_arrival() -> None:
    turns = Turns(1, limit=10, patience=10)
    order: list[int] = []

    def work(number: int) -> None:
        with turns:
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            until(lambda wanted=number + 1: turns.waiting == wanted)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    assert turns.present == 0


def test_one_more_than_may_wait_is_turned_away_at_once() -> None:
    turns = Turns(1, limit=1, patience=60)
    with turns:
        waiter = threading.Thread(target=turns.__enter__)
        waiter.start()
        until(lambda: turns.waiting == 1)
        started = time.monotonic()
        with pytest.raises(OverloadedError), turns:
            pass
        assert time.monotonic() - started < 1
    waiter.join()


def test_who_would_wait_too_long_is_turned_away_before_waiting() -> None:
    turns = Turns(1, limit=10, patience=0.001)
    with turns:
        until(lambda: time.monotonic() - turns._own.started > 0.1)
    with turns:  # a turn takes about 10 ms on the smoothed average, far more than 1 ms
        with pytest.raises(OverloadedError) as caught, turns:
            pass
        assert caught.value.retry_after == 1
        assert turns.waiting == 0


def test_who_has_waited_too_long_leaves_the_queue_and_loses_no_lane() -> None:
    turns = Turns(1, limit=10, patience=0.05)
    with turns:
        with pytest.raises(OverloadedError) as caught, turns:
            pass
        assert caught.value.retry_after == 1
        assert (turns.running, turns.waiting) == (1, 0)
    with turns:
        assert turns.running == 1


def test_an_error_inside_gives_the_lane_back() -> None:
    turns = Turns(1, limit=0, patience=1)
    with pytest.raises(ZeroDivisionError), turns:
        raise ZeroDivisionError
    assert turns.present == 0


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    lanes=st.integers(1, 4),
    limit=st.integers(0, 6),
    clients=st.integers(1, 12),
    patience=st.sampled_from([0.0005, 0.005, 5]),
)
def test_no_lane_is_lost_and_none_is_shared(
    lanes: int, limit: int, clients: int, patience: float
) -> None:
    turns = Turns(lanes, limit=limit, patience=patience)
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            try:
                with turns:
                    with guard:
                        inside += 1
                        most = max(most, inside)
                    threading.Event().wait(0.0005)
                    with guard:
                        inside -= 1
            except OverloadedError:
                pass

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= lanes
    assert turns.present == 0
