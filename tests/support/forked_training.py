"""A process that has imported training once, and forks a child for each training it is asked for.

It reads one JSON object a line: `base`, `arguments`, and `seconds` after which the child is
killed, or null. For each it prints the child's exit code, negative where a signal ended it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from opt_ml import ROOT, OptMl


class ForkedTraining:
    """The other process, seen from a test."""

    def __init__(self, opt_ml: OptMl, **variables: str) -> None:
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests/support")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "forked_training"],
            env=opt_ml.environment(PYTHONPATH=paths, **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def train(
        self, opt_ml: OptMl, options: Mapping[str, str], *, seconds: float | None = None
    ) -> int:
        """Train to the end, or kill it after so many seconds; the exit code."""
        assert self._process.stdin
        assert self._process.stdout
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        order = {"base": str(opt_ml.base), "arguments": arguments, "seconds": seconds}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> "ForkedTraining":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)


def _run(base: Path, arguments: list[str]) -> int:
    from container.training import main

    os.environ["SAGEMAKER_BASE_DIR"] = str(base)
    log = os.open(base.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return main(arguments)


def _wait(child: int, seconds: float | None) -> int:
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG if deadline else 0)
        if done:
            return os.waitstatus_to_exitcode(status)
        if deadline and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        else:
            time.sleep(0.005)


if __name__ == "__main__":
    from container.quick_start import import_torchvision

    import_torchvision()
    import container.training.run  # noqa: F401 - what takes seconds is shared by the children

    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = _run(Path(wanted["base"]), wanted["arguments"])
            sys.stdout.flush()
            os._exit(code)
        print(_wait(pid, wanted["seconds"]), flush=True)
