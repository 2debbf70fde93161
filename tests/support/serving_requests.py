"""Bodies of every kind that holds several images."""

import base64
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable

BOUNDARY = "kennel-boundary"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def base64_of(data: bytes) -> str:
    """Standard base64 text."""
    return base64.b64encode(data).decode()


def document(*images: bytes) -> bytes:
    """Kennel's own JSON for several images."""
    return json.dumps({"images": [base64_of(image) for image in images]}).encode()


def lines(*images: bytes) -> bytes:
    """One image a line."""
    return b"".join(json.dumps({"image": base64_of(image)}).encode() + b"\n" for image in images)


def form(*images: bytes) -> bytes:
    """A form with one file a part."""
    parts = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=image; filename={place}.jpg\r\n"
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + image
        + b"\r\n"
        for place, image in enumerate(images)
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    """An uncompressed tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zipped(members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()
