"""Protobuf messages by hand, and the frame in which TensorFlow's files hold them.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/io/record_writer.h
"""

import struct
from functools import lru_cache


def bytes_field(field: int, content: bytes) -> bytes:
    """Text, raw bytes or a message within the message."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def integer_field(field: int, value: int) -> bytes:
    """A number that is not negative."""
    return varint(field << 3) + varint(value)


def double_field(field: int, value: float) -> bytes:
    """A float64."""
    return varint(field << 3 | 1) + struct.pack("<d", value)


def float_field(field: int, value: float) -> bytes:
    """A float32."""
    return varint(field << 3 | 5) + struct.pack("<f", value)


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    if value < 0x80:
        return value.to_bytes(1, "little")
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def framed(content: bytes) -> bytes:
    """A message between its length and its checksum."""
    return frame_head(len(content)) + content + checksum(content)


@lru_cache(maxsize=1024)
def frame_head(length: int) -> bytes:
    """What stands before a message of so many bytes."""
    packed = struct.pack("<Q", length)
    return packed + checksum(packed)


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


def checksum(content: bytes) -> bytes:
    """CRC-32C, turned and shifted as TensorFlow's record format wants it."""
    value = 0xFFFFFFFF
    for byte in content:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)
