"""Images in an archive, tar or zip: what batch transform sends many of in one request.

An archive is read in memory and never unpacked: its members' names are only repeated in the answer.
"""

import copy
import io
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from container.images import ImageError
from container.serving.inputs import tar_members
from container.serving.inputs.items import MAX_RECORDS, Content, Item, Payload

MAX_UNPACKED = 256 * 1024 * 1024
"""Bytes of all members together; images hardly shrink in a zip file."""
MAX_NAME = 1024
_ENTRY = b"PK\x01\x02"
"""How each entry of a zip file's directory begins."""


def parse_tar(body: bytes) -> Payload:
    """Every file of an uncompressed tar archive.

    Raises:
        BadRequest: not an archive, or none with files. A bad member is an error in its place.
        RequestEntityTooLarge: more than MAX_RECORDS members.
    """
    return _payload(_tar_members(body), "tar")


def parse_zip(body: bytes) -> Payload:
    """Every file of a zip archive.

    Raises:
        BadRequest: not an archive, or none with files. A bad member is an error in its place.
        RequestEntityTooLarge: more than MAX_RECORDS members, or more than MAX_UNPACKED bytes.
    """
    return _payload(_zip_members(body), "zip")


def _payload(members: Iterator[Item], kind: str) -> Payload:
    try:
        items = [item for item in members if not _is_hidden(item.name or "")]
    except HTTPException:
        raise
    except Exception:  # damaged archives raise many kinds
        raise BadRequest(
            f"This is not a {kind} archive, or it is damaged"
            + ("; a compressed one must be sent as zip." if kind == "tar" else ".")
        ) from None
    if not items:
        raise BadRequest("The archive holds no files; send one with images in it.")
    return Payload(items, several=True)


def _tar_members(body: bytes) -> Iterator[Item]:
    for count, member in enumerate(tar_members.members(body)):
        _check_count(count + 1)
        if member is None:
            continue
        if member.data is None:
            content: Content = ImageError("This member is a link or no ordinary file.")
        else:
            content = member.data
        yield Item(content, member.name[:MAX_NAME])


def _zip_members(body: bytes) -> Iterator[Item]:
    # Counted before the directory is read, whose entries take ten times their size in memory.
    # Twice as many may be there, since the same bytes may stand in an image too.
    _check_count(body.count(_ENTRY) // 2)
    archive = zipfile.ZipFile(io.BytesIO(body))
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_count(len(files))
    # No more than an entry claims is ever unpacked of it: see `_unpacked`.
    if sum(entry.file_size for entry in files) > MAX_UNPACKED:
        raise RequestEntityTooLarge(
            f"The archive unpacks to more than {MAX_UNPACKED // 2**20} MB; send fewer images at "
            "a time."
        )
    for entry in files:
        yield Item(partial(_unpacked, archive, entry), entry.filename[:MAX_NAME])


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Content:
    """One member, unpacked when its turn comes: memory holds a few of them at a time."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return ImageError("This member is compressed in another way than by deflate.")
    # zipfile unpacks all that is there, whatever the entry claims, unless it is asked for so much.
    # One byte more is: an honest entry ends there and is checked, one that holds more is found out.
    claimed = copy.copy(entry)
    claimed.file_size += 1
    try:
        with archive.open(claimed) as file:
            data = file.read(claimed.file_size)
        if len(data) > entry.file_size:
            raise zipfile.BadZipFile
    except Exception:  # a wrong checksum, a password, overlapping members
        return ImageError("This member of the archive is damaged or encrypted.")
    return data


def _check_count(count: int) -> None:
    if count > MAX_RECORDS:
        raise RequestEntityTooLarge(
            f"The archive has more than {MAX_RECORDS} members; send fewer images at a time."
        )


def _is_hidden(name: str) -> bool:
    """What macOS and others leave in archives beside the files: `__MACOSX/`, `._a.jpg`."""
    parts = PurePosixPath(name).parts
    return any(part == "__MACOSX" or (part[0] == "." and part != "..") for part in parts)
