"""One step's tensors in smdebug's own format: an event file, and an index of it.

smdebug hands each tensor to a thread of its own, as a message that Python's protobuf made; when
the disk is full the thread dies, and training then waits for it for ever. This is a hundred times
as fast for the many single numbers that reductions are, and it is an error where smdebug hangs.
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto
"""

import json
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from smdebug.core.modes import ModeKeys
from smdebug.core.writer import FileWriter

from container.debugging.records import DTYPES, Array
from container.debugging.wire import (
    bytes_field,
    checksum,
    double_field,
    frame_head,
    integer_field,
)

_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
_UNCHECKED = checksum(b"0x12345678")
"""What smdebug writes where others have a checksum of the content: its readers skip it."""


class StepFile:
    """Stands in for smdebug's `FileWriter` where that writes a step's tensors.

    Everything in one file is of one mode and step. Raises OSError where the disk is full.
    """

    def __init__(self, directory: Path, worker: str, step: int) -> None:
        name = f"{step:012d}"
        self._step = step
        self._events = directory / "events" / name / f"{name}_{worker}.tfevents"
        self._index = directory / "index" / f"{step // 1000:09d}" / f"{name}_{worker}.json"
        self._relative = f"events/{name}/{self._events.name}"
        self._file: BinaryIO | None = None
        self._position = 0
        self._meta: dict[str, Any] = {}
        self._places: list[dict[str, Any]] = []
        self._shapes: list[dict[str, Any]] = []

    def write_tensor(
        self,
        tdata: Array,
        tname: str,
        mode: ModeKeys = ModeKeys.GLOBAL,
        mode_step: int = 0,
        timestamp: float | None = None,
    ) -> None:
        """A whole tensor; the names are smdebug's."""
        value = np.asarray(tdata)
        if value.dtype not in _NUMBERS:
            raise TypeError(f"{tname} holds {value.dtype}, which smdebug cannot save")
        shape = b"".join(
            bytes_field(2, integer_field(1, size) + bytes_field(2, f"{tname}_{size}".encode()))
            for size in value.shape
        )
        head = integer_field(1, _NUMBERS[value.dtype]) + bytes_field(2, shape)
        file = self._begin(mode, mode_step)
        event = self._head(timestamp)
        self._append(file, tname, event, head + bytes_field(4, value.tobytes()), mode, mode_step)

    def write_numbers(
        self, names: Sequence[str], values: Array, mode: ModeKeys, mode_step: int
    ) -> None:
        """Many float32 values, each a tensor without dimensions under its own name."""
        file = self._begin(mode, mode_step)
        event = self._head(None)
        head = integer_field(1, _NUMBERS[np.dtype("<f4")]) + bytes_field(2, b"")
        for name, value in zip(names, values.astype("<f4"), strict=True):
            self._append(file, name, event, head + bytes_field(4, value.tobytes()), mode, mode_step)

    def write_shape(
        self,
        name: str,
        shape: Sequence[int],
        mode: ModeKeys = ModeKeys.GLOBAL,
        mode_step: int = 0,
        original_name: str | None = None,
    ) -> None:
        """The size of a tensor that is not saved itself; it goes to the index alone."""
        self._meta = self._meta or {"mode": mode.name, "mode_step": mode_step}
        self._shapes.append(
            {"tensorname": name, "originalname": original_name or name, "shape": list(shape)}
        )

    def flush(self) -> None:
        """Everything is on disk when `close` returns; before that there is nothing to read."""

    def close(self) -> None:
        """Give the file its name, then write the index, which tells readers that it is there."""
        if self._file:
            temporary = Path(self._file.name)
            try:
                self._file.close()
                temporary.replace(self._events)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            self._file = None
        if self._meta:
            content = {
                "meta": self._meta,
                "tensor_payload": self._places,
                "shape_payload": self._shapes,
            }
            self._meta = {}
            self._index.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._index.with_name(self._index.name + ".tmp")
            temporary.write_text(json.dumps(content))
            temporary.replace(self._index)

    def _begin(self, mode: ModeKeys, mode_step: int) -> BinaryIO:
        self._meta = {
            "mode": mode.name,
            "mode_step": mode_step,
            "event_file_name": self._relative,
        }
        if self._file is None:
            self._events.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._events.with_name(self._events.name + ".tmp").open("wb")
        return self._file

    def _head(self, timestamp: float | None) -> bytes:
        return double_field(1, timestamp or time.time()) + integer_field(2, self._step)

    def _append(
        self,
        file: BinaryIO,
        name: str,
        head: bytes,
        tensor: bytes,
        mode: ModeKeys,
        mode_step: int,
    ) -> None:
        """Event: 1 time, 2 step, 5 summary. Value: 1 name, 8 tensor, 9 mode and its step."""
        content = (
            bytes_field(1, name.encode()) + bytes_field(8, tensor) + _metadata(mode, mode_step)
        )
        event = head + bytes_field(5, bytes_field(1, content))
        record = frame_head(len(event)) + event + _UNCHECKED
        file.write(record)
        place = {"tensorname": name, "start_idx": self._position, "length": len(record)}
        self._places.append(place)
        self._position += len(record)


@lru_cache(maxsize=4)
def _metadata(mode: ModeKeys, mode_step: int) -> bytes:
    return bytes_field(9, FileWriter._get_metadata(mode, mode_step).SerializeToString())
