"""TensorBoard's event files, without TensorBoard: one number at a step is a record of forty bytes.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/io/record_writer.h
"""

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from container.debugging.wire import bytes_field, double_field, float_field, integer_field


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
        length = struct.pack("<Q", len(event))
        record = length + _checksum(length) + event + _checksum(event)
        with self.path.open("ab") as file:
            file.write(record)


def _table() -> tuple[int, ...]:
    """Of the checksum CRC-32C, which zlib does not have."""
    entries = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_TABLE = _table()


def _checksum(content: bytes) -> bytes:
    """CRC-32C, turned and shifted as TensorFlow's record format wants it."""
    value = 0xFFFFFFFF
    for byte in content:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)
