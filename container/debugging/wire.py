"""Protobuf messages by hand: each function makes one field."""

import struct


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
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
