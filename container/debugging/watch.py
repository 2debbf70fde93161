"""The rules beside a training: a process of low priority that looks at the tensors now and then.

It takes at most a fiftieth of one core, ends when its standard input does, so also when training
is killed, and tells training to stop as SageMaker does, by SIGTERM.
"""

import json
import math
import os
import select as waiting
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from container.atomic import write_atomically
from container.debugging.companion import Companion
from container.debugging.rules.rule import Result, Rule, evaluate
from container.debugging.rules.selection import as_text
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
    tensors = Tensors(directory)
    found: dict[str, Result] = {}
    pause, over = PAUSE, False
    while not over:
        over = _input_ended(pause)
        started = time.monotonic()
        if tensors.refresh() or over:
            _look(rules, tensors, found)
            write_results(results, list(found.values()))
        fired = [name for name, result in found.items() if result.status == "IssuesFound"]
        if fired and stop and not over and os.getppid() == training:
            say(f"Training is asked to stop, because {fired[0]} fired and on-rule is stop.")
            os.kill(training, signal.SIGTERM)
            stop = False
        pause = max(PAUSE, PAUSE_SHARE * (time.monotonic() - started))


def write_results(path: Path, results: Sequence[Result]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(as_json(result) + "\n" for result in results).encode())


def read_results(path: Path) -> list[Result]:
    """What `write_results` wrote; nothing where it did not."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Result(**json.loads(line)) for line in lines]


def as_json(result: Result) -> str:
    """A result on one line, whatever numbers its evidence holds."""
    content = asdict(result)
    content["evidence"] = {name: _plain(value) for name, value in result.evidence.items()}
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    """JSON has no infinity and no NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _look(rules: Sequence[Rule], tensors: Tensors, found: dict[str, Result]) -> None:
    """Evaluate what has not fired yet, and say at once what fires."""
    for rule in rules:
        if rule.name in found and found[rule.name].status == "IssuesFound":
            continue
        result = evaluate(rule, tensors)
        found[rule.name] = result
        if result.status == "IssuesFound":
            evidence = ", ".join(f"{name} {value}" for name, value in result.evidence.items())
            say(
                f"Rule {rule.name} fired at step {result.step}: {rule.illness} ({evidence}) "
                f"What to try: {rule.advice}"
            )


def _input_ended(seconds: float) -> bool:
    """Wait; True as soon as the process at the other end has closed its side, or is gone."""
    ready, _, _ = waiting.select([sys.stdin], [], [], seconds)
    return bool(ready)
