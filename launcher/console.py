"""What the user reads: sentences for people, one JSON document for machines."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote, urlparse

from launcher import records


class Console:
    """Prints progress; with `--json`, progress goes to stderr and the result alone to stdout."""

    def __init__(self, *, as_json: bool, guide: bool = True, stdout: TextIO | None = None) -> None:
        self.as_json = as_json
        self.guide = guide
        self._stdout = stdout or sys.stdout
        self._stream = sys.stderr if as_json else self._stdout
        self._program = sys.argv[0] if Path(sys.argv[0]).name == "launch.py" else "./launch.py"
        self.coloured = self._stream.isatty() and "NO_COLOR" not in os.environ

    def say(self, text: str = "") -> None:
        """One line of progress."""
        print(text, file=self._stream, flush=True)

    def head(self, text: str) -> None:
        """What begins now."""
        self.say(self._styled(text, "1"))

    def quote(self, line: str) -> None:
        """One line that a job printed."""
        self.say(self._styled("│ ", "2") + line)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Columns as wide as their content; numbers to the right."""
        texts = [[str(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
        self.say(self._styled(_row(head, head, widths), "2"))
        for row, text in zip(rows, texts, strict=True):
            self.say(_row(text, row, widths))

    def next(self, *steps: tuple[str, str]) -> None:
        """What the user can do now: commands, and what each does."""
        if not self.guide:
            return
        commands = [command.replace("./launch.py", self._program) for command, _ in steps]
        width = max(map(len, commands))
        self.say()
        for index, (command, (_, meaning)) in enumerate(zip(commands, steps, strict=True)):
            lead = "Next: " if index == 0 else "      "
            self.say(f"{lead}{self._styled(command, '1')}{' ' * (width - len(command))}  {meaning}")

    def result(self, content: dict[str, Any]) -> None:
        """The command's result, for machines."""
        if self.as_json:
            print(json.dumps(content, indent=2, default=records.plain), file=self._stdout)

    def document(self, content: object) -> None:
        """JSON that was asked for by name, as by `--dry-run`."""
        print(json.dumps(content, indent=2, default=records.plain), file=self._stdout)

    def _styled(self, text: str, style: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self.coloured else text


def _row(texts: Sequence[str], values: Sequence[object], widths: Sequence[int]) -> str:
    cells = [
        text.rjust(width) if isinstance(value, int | float) else text.ljust(width)
        for text, value, width in zip(texts, values, widths, strict=True)
    ]
    return "  " + "  ".join(cells).rstrip()


def place(address: str) -> str:
    """An address for a person: a file of this machine as seen from the working directory."""
    if not address.startswith("file://"):
        return address
    path = Path(unquote(urlparse(address).path))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def duration(seconds: float) -> str:
    """A length of time, such as `1 min 5 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
