"""The members of a tar archive in memory, read by a parser that knows no more than images need.

Python's own takes quadratic time and memory on crafted headers (CVE-2024-6232), with the
interpreter's lock held, and follows sizes below 0 in circles. Here each byte is looked at once:
`tarfile` parses a header's 512 bytes, and of what extends it only a name and a size are taken.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = tarfile.BLOCKSIZE
_RECORDS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_RECORDS, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""Headers whose data is about the next one, or about all that follow."""
_RECORD = re.compile(rb"([0-9]{1,9}) ")
"""How each record begins: with its own length in bytes."""
_SPARSE = b"GNU.sparse."


@dataclass(frozen=True)
class Member:
    """What the archive holds in one place, but for folders."""

    name: str
    data: bytes | None
    """None of a link, of a device and of a file with holes."""


@dataclass
class _Extension:
    """What extended headers say of the next member."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False


def members(body: bytes) -> Iterator[Member | None]:
    """What an archive holds, in its order; None for a folder. What is no header is its end.

    Raises:
        ValueError, tarfile.TarError: no archive, or a damaged one.
    """
    place = 0
    extension = _Extension()
    while (header := _header(body, place)) is not None:
        place += _BLOCK
        if header.type in _EXTENSIONS:
            _extend(extension, header.type, _data(body, place, header.size))
            place += _blocks(header.size)
            continue
        name = header.name if extension.name is None else extension.name
        if header.isdir():
            yield None
        elif not header.isreg() and header.type in tarfile.SUPPORTED_TYPES:  # no data follows
            yield Member(name, None)
        else:
            size = header.size if extension.size is None else extension.size
            place = _after_holes(body, place, header)
            data = _data(body, place, size)
            place += _blocks(size)
            holes = extension.sparse or header.type == tarfile.GNUTYPE_SPARSE
            yield Member(name, data if header.isreg() and not holes else None)
        extension = _Extension()


def _header(body: bytes, place: int) -> tarfile.TarInfo | None:
    """The header in a place, if there is one. Raises tarfile.TarError where there never was."""
    try:
        return tarfile.TarInfo.frombuf(body[place : place + _BLOCK], "utf-8", "surrogateescape")
    except tarfile.TarError:
        if place == 0 and any(body[:_BLOCK]):
            raise
        return None


def _blocks(size: int) -> int:
    """Bytes of the whole blocks that so many bytes of data are stored in."""
    return -(-size // _BLOCK) * _BLOCK


def _data(body: bytes, place: int, size: int) -> bytes:
    if not 0 <= size <= len(body) - place:
        raise ValueError("the archive ends early")
    return body[place : place + size]


def _after_holes(body: bytes, place: int, header: tarfile.TarInfo) -> int:
    """Where a member's data begins: GNU tar's list of holes may go on behind the header."""
    if header.type == tarfile.GNUTYPE_SPARSE and body[place - _BLOCK + 482]:
        while _data(body, place, _BLOCK)[504]:
            place += _BLOCK
        place += _BLOCK
    return place


def _extend(extension: _Extension, kind: bytes, data: bytes) -> None:
    if kind == tarfile.GNUTYPE_LONGNAME:
        extension.name = _text(data.partition(b"\0")[0])
    elif kind in _RECORDS:
        for keyword, value in _records(data):
            if keyword in (b"path", b"GNU.sparse.name"):
                extension.name = _text(value.rstrip(b"/"))
            elif keyword == b"size":
                extension.size = int(value[:20])
            extension.sparse |= keyword.startswith(_SPARSE)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keywords and values of an extended header, each `LENGTH KEYWORD=VALUE` and a newline."""
    place = 0
    while found := _RECORD.match(data, place):
        end = place + int(found[1])
        keyword, equals, value = data[found.end() : end - 1].partition(b"=")
        if not equals or end > len(data):
            raise ValueError("an extended header is damaged")
        yield keyword, value
        place = end


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
