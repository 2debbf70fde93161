"""A process beside training: started with a pipe, over when the pipe is closed.

So it ends with a training that is killed, too.
"""

import os
import subprocess
import sys
from pathlib import Path

from container.progress import say


class Companion:
    """`python -m MODULE ARGUMENTS`, in the background."""

    def __init__(self, module: str, *arguments: str) -> None:
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:  # training does without
            say(f"No process could be started beside training: {error}.")

    def close(self, seconds: float, name: str) -> None:
        """Have it finish what it does, within so many seconds."""
        if self._process is None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        try:
            if code := self._process.wait(seconds):
                say(f"{name} failed, with exit code {code}; training does without.")
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            say(f"{name} did not finish in {seconds:.0f} seconds and was ended.")
