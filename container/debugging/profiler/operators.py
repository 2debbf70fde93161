"""Every operator of a few steps, timed by torch's own profiler: a table and a trace."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from container.atomic import write_atomically
from container.debugging.profiler.profile import OPERATORS_FILE
from container.errors import UserError
from container.progress import say

TRACE_FILE = "trace.json.gz"
_KEPT = 40


def parse_steps(text: str) -> tuple[int, int] | None:
    """The hyperparameter `profile-steps`. Raises UserError."""
    if text == "off":
        return None
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if not match or int(match[1]) > int(match[2]) or int(match[2]) - int(match[1]) >= 100:
        raise UserError(
            f"profile-steps must be off, or a first and last step at most 100 apart such as "
            f"10-14, got {text!r}."
        )
    return int(match[1]), int(match[2])


class OperatorProfiler:
    """Starts before the first step of the range and ends after the last.

    A training that goes on in the middle of the range times what is left of it, and an evaluation
    in the middle ends it.
    """

    def __init__(self, steps: tuple[int, int] | None, directory: Path) -> None:
        self._steps = steps
        self._directory = directory
        self._profiler: Any = None
        self._first = 0
        """The first step that is timed."""

    def before_step(self, step: int) -> None:
        """Called before each training step; the first is step 0."""
        if self._steps and step == self._steps[1] + 1:
            self.close()
        elif self._steps and self._steps[0] <= step <= self._steps[1] and self._profiler is None:
            self._first = step
            self._guarded(self._start)

    def before_evaluation(self, step: int) -> None:
        """Called before each evaluation, with the next step's number: it is not to be timed."""
        if self._profiler is None:
            return
        if step > self._first:
            self.close()
            self._steps = None
            say(f"Operators are timed up to step {step - 1}: an evaluation follows.")
        else:  # begun too early: the step comes after the evaluation, if one comes at all
            self._guarded(self._profiler.stop)
            self._profiler = None

    def close(self) -> None:
        """Write what was measured, if anything was."""
        if self._profiler is not None:
            self._guarded(self._write)
            self._profiler = None

    def _guarded(self, call: Callable[[], None]) -> None:
        """Training goes on whatever ails the profiler."""
        try:
            call()
        except Exception as error:
            self._steps = None
            say(f"Operators are not timed ({type(error).__name__}: {error}).")

    def _start(self) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        else:
            # torch's profiler writes its own lines, and on a CPU an error that there is no GPU.
            os.environ.setdefault("KINETO_LOG_LEVEL", "6")
        self._profiler = torch.profiler.profile(activities=activities)
        self._profiler.start()

    def _write(self) -> None:
        profiler = self._profiler
        profiler.stop()
        self._directory.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self._directory / TRACE_FILE))
        on_gpu = torch.cuda.is_available()
        rows = [
            {
                "operator": event.key,
                "calls": event.count,
                "milliseconds": (event.device_time_total if on_gpu else event.cpu_time_total) / 1e3,
                "own_milliseconds": (
                    event.self_device_time_total if on_gpu else event.self_cpu_time_total
                )
                / 1e3,
            }
            for event in profiler.key_averages()
            # The profiler's own marks around steps and optimizers are no operators.
            if event.key.startswith("aten::")
        ]
        rows.sort(key=lambda row: -row["milliseconds"])
        write_atomically(self._directory / OPERATORS_FILE, json.dumps(rows[:_KEPT]).encode())
