"""JSON files replaced in one step: a killed program leaves the old one or the new one."""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from container.errors import UserError


def read(path: Path) -> dict[str, Any]:
    """The file's content, or nothing where there is no file. Raises UserError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Remove it to start afresh.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object. Remove it to start afresh.")
    return content


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file. Raises UserError where the directory cannot be written to."""
    text = json.dumps(content, indent=2, default=plain) + "\n"
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)  # noqa: PTH105 - Path.replace differs only in its name
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path} cannot be written: {error.strerror}.") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let no other thread or process in that locks the same. Raises UserError.

    The lock is a file of its own beside the path, which may be replaced meanwhile.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def plain(value: object) -> str:
    """Times, paths and bytes as JSON holds them."""
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    return value.isoformat() if isinstance(value, datetime) else str(value)
