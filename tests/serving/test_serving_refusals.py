"""What those who are refused are told."""

import pytest

from container.serving.refusals import LONGEST_SECONDS, Refusals


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refuse(told: Refusals, clock: Clock, *, per_second: int, seconds: float) -> list[int]:
    """What is answered under a steady stream of refusals."""
    answers = []
    for _ in range(round(per_second * seconds)):
        clock.now += 1 / per_second
        answers.append(told.retry_after())
    return answers


def test_a_few_who_are_refused_may_come_back_after_a_second() -> None:
    clock = Clock()
    assert set(refuse(Refusals(clock), clock, per_second=5, seconds=20)) == {1}


def test_many_are_spread_over_more_seconds_the_more_they_are() -> None:
    for per_second, latest in ((20, 3), (50, 7), (500, LONGEST_SECONDS)):
        clock = Clock()
        told = Refusals(clock)
        refuse(told, clock, per_second=per_second, seconds=30)
        answers = refuse(told, clock, per_second=per_second, seconds=60)
        assert set(answers) == set(range(1, latest + 1))
        assert sum(answers) / len(answers) == pytest.approx((1 + latest) / 2, rel=0.1)


def test_a_short_burst_is_asked_back_soon_and_forgotten() -> None:
    clock = Clock()
    told = Refusals(clock)
    assert max(told.retry_after() for _ in range(100)) <= 3
    clock.now += 30
    assert told.retry_after() == 1
