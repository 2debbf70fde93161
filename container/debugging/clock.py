"""Where the time of each training step goes, measured by marks between its phases."""

import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

STEP_PHASES = ("data_wait", "to_device", "forward", "backward", "optimizer", "hook")
PHASES = (*STEP_PHASES, "checkpoint", "evaluation")


class Timer(Protocol):
    """Takes moments, and tells the seconds between them once they are past."""

    every: int
    """One step in so many is measured."""

    def now(self) -> Any:
        """This moment in the work that has been given out so far."""

    def is_past(self, moment: Any) -> bool:
        """Whether the work has come to it."""

    def between(self, first: Any, second: Any) -> float:
        """Seconds between two moments that are past."""


class HostTimer:
    """For work that is done when its call returns, as on a CPU."""

    every = 1

    def now(self) -> float:
        """See Timer."""
        return time.perf_counter()

    def is_past(self, moment: float) -> bool:
        """See Timer."""
        return True

    def between(self, first: float, second: float) -> float:
        """See Timer."""
        return second - first


@dataclass
class _Step:
    """A step that is being measured."""

    number: int
    start: float
    phases: list[str] = field(default_factory=list)
    moments: list[Any] = field(default_factory=list)
    """One more than phases: the first is the step's start."""
    hook: list[float] = field(default_factory=list)
    """What the hook had taken at each moment."""


@dataclass
class Clock:
    """Measures phases: each mark names what has been done since the mark before it."""

    timer: Timer = field(default_factory=HostTimer)
    hook_seconds: Callable[[], float] = field(default=lambda: 0.0)
    """What smdebug has taken so far, to be told from the phases in which it is called."""
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    """Which steps were measured, counted from 0."""
    starts: "array[float]" = field(default_factory=lambda: array("d"))
    """When each measured step began, since 1970."""
    steps: "dict[str, array[float]]" = field(
        default_factory=lambda: {phase: array("f") for phase in STEP_PHASES}
    )
    """Seconds of each phase in each measured step."""
    apart: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(PHASES[len(STEP_PHASES) :], 0.0)
    )
    """Seconds in all of what is not part of a step."""
    count: int = 0
    """Steps done, measured or not."""

    def __post_init__(self) -> None:
        self._last = time.perf_counter()
        self._step: _Step | None = None
        self._waiting: deque[_Step] = deque()

    def begin(self) -> None:
        """A step, or something apart from the steps, starts now."""
        self._last = time.perf_counter()
        self._step = None
        if self.count % self.timer.every == 0:
            self._step = _Step(self.count, time.time())
            self._step.moments.append(self.timer.now())
            self._step.hook.append(self.hook_seconds())

    def mark(self, phase: str) -> None:
        """What was done since the last mark was this phase."""
        now = time.perf_counter()
        if phase in self.apart:  # it ends with a value that the processor has waited for
            self.apart[phase] += now - self._last
        if self._step:
            self._step.phases.append(phase)
            self._step.moments.append(self.timer.now())
            self._step.hook.append(self.hook_seconds())
        self._last = now

    def end_step(self) -> None:
        """The step is over, and the next one begins."""
        self.count += 1
        if self._step:
            self._waiting.append(self._step)
        self._take_past_steps()
        self.begin()

    def totals(self) -> dict[str, float]:
        """Seconds of each phase over the whole training, unmeasured steps counted like the rest."""
        self._take_past_steps()
        scale = self.count / len(self.starts) if self.starts else 0.0
        return {name: sum(values) * scale for name, values in self.steps.items()} | self.apart

    def _take_past_steps(self) -> None:
        while self._waiting and self.timer.is_past(self._waiting[0].moments[-1]):
            self._take(self._waiting.popleft())

    def _take(self, step: _Step) -> None:
        seconds = dict.fromkeys(STEP_PHASES, 0.0)
        for index, phase in enumerate(step.phases):
            if phase in seconds:
                spent = self.timer.between(step.moments[index], step.moments[index + 1])
                # On a GPU the hook may have run while it was busy with what came before.
                hook = min(step.hook[index + 1] - step.hook[index], spent)
                seconds[phase] += spent - hook
                seconds["hook"] += hook
        self.numbers.append(step.number)
        self.starts.append(step.start)
        for phase, value in seconds.items():
            self.steps[phase].append(value)
