"""What decoding an image may cost beyond its pixels: a JPEG's scans and a TIFF's tiles.

Both are read as the C libraries read them, since these decode: what Pillow says of a file with two
answers may be the other one.
"""

import re
from collections.abc import Iterator
from typing import Literal

MAX_SCANS = 100
"""Each is a pass over all of a JPEG's pixels; a progressive photograph has about ten."""
_MAX_MARKERS = 10_000
_START_OF_SCAN, _END = 0xDA, 0xD9
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
"""Not what may stand between the bytes of a scan, nor what fills up."""

_TILE_WIDTH, _TILE_LENGTH = 322, 323
_BYTES = {1: 1, 3: 2, 4: 4, 16: 8}
"""By TIFF's number of a type: BYTE, SHORT, LONG, and BigTIFF's LONG8."""
_TIFF, _BIG_TIFF = 42, 43


def has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG has more than MAX_SCANS; of any other file False."""
    if not data.startswith(b"\xff\xd8"):
        return False
    components = scans = 0
    for count, (marker, place) in enumerate(_markers(data)):
        if count == _MAX_MARKERS:
            return True
        if marker in _FRAMES:
            components = 255 if marker in _PROGRESSIVE else _byte(data, place + 7)
        elif marker == _START_OF_SCAN:
            # Most JPEGs end here: a scan of all components at once is the only one. Of the others
            # most end at the count, which also finds what is in thumbnails or after the end.
            if not scans and (
                _byte(data, place + 2) >= components or data.count(b"\xff\xda") <= MAX_SCANS
            ):
                return False
            scans += 1
            if scans > MAX_SCANS:
                return True
    return False


def _markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker of a JPEG up to its end, and where its segment's length stands."""
    place = 2
    while found := _MARKER.search(data, place):
        marker, place = found[1][0], found.end()
        if marker == _END:
            return
        yield marker, place
        place += int.from_bytes(data[place : place + 2], "big")


def _byte(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 1], "big")


def tile_pixels(data: bytes) -> int | None:
    """Pixels of a TIFF's tile, which takes its memory as a whole however small the image is.

    0 where there are no tiles, None where their size is not a plain number.
    """
    sides = {_TILE_WIDTH: 0, _TILE_LENGTH: 0}
    for tag, side in _sides(data):
        if side is None:
            return None
        # Of two that say different things the decoder may take either.
        sides[tag] = max(sides[tag], side)
    return sides[_TILE_WIDTH] * sides[_TILE_LENGTH]


def _sides(data: bytes) -> Iterator[tuple[int, int | None]]:
    """What the first directory of a TIFF says of its tiles' sides; the other pages are not read."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)

    if data[:2] not in (b"II", b"MM") or number(2, 2) not in (_TIFF, _BIG_TIFF):
        return
    # Offsets and counts have 8 bytes in a BigTIFF, and it says so in 4 bytes more.
    big = number(2, 2) == _BIG_TIFF
    directory, wide = (number(8, 8), 8) if big else (number(4, 4), 4)
    heading = 8 if big else 2
    for place in range(
        directory + heading,
        min(directory + heading + number(directory, heading) * (4 + 2 * wide), len(data)),
        4 + 2 * wide,
    ):
        tag, kind = number(place, 2), number(place + 2, 2)
        if tag in (_TILE_WIDTH, _TILE_LENGTH):
            size = _BYTES.get(kind, wide + 1)
            yield tag, number(place + 4 + wide, size) if size <= wide else None
