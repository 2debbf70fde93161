"""Where the time of each training step goes, measured by marks between its phases."""

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

PHASES = (
    "data_wait",
    "to_device",
    "forward",
    "backward",
    "optimizer",
    "hook",
    "checkpoint",
    "evaluation",
)
_OF_A_STEP = PHASES[:6]

EVERY_ON_GPU = 20
"""On a GPU a phase can only be measured by waiting for its end, so only one step in so many is."""


@dataclass
class Clock:
    """Measures phases: each mark names what has been done since the mark before it."""

    wait: Callable[[], object] | None = None
    """Waits for the GPU; None on a CPU, where calls return when they are done."""
    hook_seconds: Callable[[], float] = field(default=lambda: 0.0)
    """What smdebug has taken so far, to be told from the phases in which it is called."""
    starts: "array[float]" = field(default_factory=lambda: array("d"))
    """When each measured step began, since 1970."""
    steps: "dict[str, array[float]]" = field(
        default_factory=lambda: {phase: array("f") for phase in _OF_A_STEP}
    )
    """Seconds of each phase in each measured step."""
    apart: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES[6:], 0.0))
    """Seconds in all of what is not part of a step."""
    count: int = 0
    """Steps done, measured or not."""

    def __post_init__(self) -> None:
        self.created = time.time()
        self._current = dict.fromkeys(_OF_A_STEP, 0.0)
        self._last = time.perf_counter()
        self._hook_before = 0.0
        self._measuring = True

    def begin(self) -> None:
        """A step, or something apart from the steps, starts now."""
        self._measuring = self.wait is None or self.count % EVERY_ON_GPU == 0
        if self.wait and self._measuring:
            self.wait()
        self._current = dict.fromkeys(_OF_A_STEP, 0.0)
        self._last = time.perf_counter()
        self._hook_before = self.hook_seconds()

    def mark(self, phase: str) -> None:
        """What was done since the last mark was this phase."""
        if not self._measuring:
            return
        if self.wait:
            self.wait()
        now, hook = time.perf_counter(), self.hook_seconds()
        inside = hook - self._hook_before
        spent = now - self._last - inside
        self._last, self._hook_before = now, hook
        if phase in self.apart:
            self.apart[phase] += spent + inside
        else:
            self._current[phase] += spent
            self._current["hook"] += inside

    def end_step(self) -> None:
        """The step is over, and the next one begins."""
        self.count += 1
        if self._measuring:
            self.starts.append(time.time() - sum(self._current.values()))
            for phase, seconds in self._current.items():
                self.steps[phase].append(seconds)
        self.begin()

    def totals(self) -> dict[str, float]:
        """Seconds of each phase over the whole training, unmeasured steps counted like the rest."""
        scale = self.count / len(self.starts) if self.starts else 0.0
        return {name: sum(values) * scale for name, values in self.steps.items()} | self.apart
