"""TensorBoard's event files, without TensorBoard: a number at a step is a record of forty bytes."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from container.debugging.wire import (
    bytes_field,
    double_field,
    float_field,
    framed,
    integer_field,
)


class EventFile:
    """Appends numbers to one event file; each is on disk when `add` returns."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{os.uname().nodename}.{os.getpid()}"
        self.path = directory / name
        self._write(double_field(1, time.time()) + bytes_field(3, b"brain.Event:2"))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Numbers under their names, at a step."""
        summary = b"".join(
            bytes_field(1, bytes_field(1, name.encode()) + float_field(2, value))
            for name, value in values.items()
        )
        self._write(double_field(1, time.time()) + integer_field(2, step) + bytes_field(5, summary))

    def _write(self, event: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(framed(event))
