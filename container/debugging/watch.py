"""The rules beside a training: a process of low priority that looks at the tensors now and then.

It takes at most a fiftieth of one core, ends when its standard input does, so also when training
is killed, and tells training to stop as SageMaker does, by SIGTERM.
"""

import os
import select as waiting
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from container.debugging.companion import Companion
from container.debugging.results import Result, announce, read_results, write_results
from container.debugging.rules.course import StalledTraining
from container.debugging.rules.rule import Rule, evaluate
from container.debugging.selection import as_text
from container.debugging.tensors import Tensors
from container.progress import say

PAUSE = 5.0
"""Seconds between two looks, at least."""
PAUSE_SHARE = 50
"""How many times longer than a look the pause after it is."""
LAST_LOOK_SECONDS = 20.0


class Watch:
    """Rules that are evaluated in a process of their own."""

    def __init__(self, tensors: Path, results: Path, rules: Sequence[Rule], *, stop: bool) -> None:
        self.results = results
        results.unlink(missing_ok=True)
        self._companion = Companion(
            "container.debugging",
            "watch",
            str(tensors),
            str(results),
            f"--rules={as_text(rules)}",
            *(["--stop"] if stop else []),
        )

    def close(self) -> list[Result]:
        """Have the rules look at the finished tensors, and return what they found."""
        self._companion.close(LAST_LOOK_SECONDS, "The rules' last look at the tensors")
        return read_results(self.results)


def run(directory: Path, results: Path, rules: Sequence[Rule], *, stop: bool) -> None:
    """What the process does: look, say what fired, wait; once more when its input ends."""
    os.nice(19)
    # Ctrl-C on a terminal reaches this process too; training then closes it in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training = os.getppid()
    tensors = Tensors(directory, since=time.time())
    found: dict[str, Result] = {}
    pause, over = PAUSE, False
    while not over:
        over = _input_ended(pause)
        started = time.monotonic()
        new = tensors.refresh() or over
        # That nothing is new is what one rule waits for.
        able = [rule for rule in rules if new or isinstance(rule, StalledTraining)]
        if able:
            _look(able, tensors, found)
            write_results(results, list(found.values()))
        fired = [name for name, result in found.items() if result.fired]
        if fired and stop and not over and os.getppid() == training:
            say(f"Training is asked to stop, because {fired[0]} fired and on-rule is stop.")
            os.kill(training, signal.SIGTERM)
            stop = False
        pause = max(PAUSE, PAUSE_SHARE * (time.monotonic() - started))


def _look(rules: Sequence[Rule], tensors: Tensors, found: dict[str, Result]) -> None:
    """Evaluate what has not fired yet, and say at once what fires."""
    for rule in rules:
        if rule.name not in found or not found[rule.name].fired:
            found[rule.name] = evaluate(rule, tensors)
            if found[rule.name].fired:
                announce(rule, found[rule.name])


def _input_ended(seconds: float) -> bool:
    """Wait; True as soon as the process at the other end has closed its side, or is gone."""
    ready, _, _ = waiting.select([sys.stdin], [], [], seconds)
    return bool(ready)
