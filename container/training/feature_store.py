"""What frozen layers make of images, on disk, shared by every run with the same frozen layers.

A store is a directory of immutable safetensors files, each written in one step, so any number of
processes may read while one writes. Rows are found by the digest of an image's bytes and the name
of the view, so neither the split nor where the data lies matters. Files are mapped, not read: what
a batch does not ask for takes no memory.
"""

import errno
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from container.atomic import write_atomically
from container.errors import UserError
from container.progress import say
from container.stopping import StopSignal

VERSION = 2
"""Counted up when the same inputs would give other features."""
SECONDS_BETWEEN_TRIES = 0.2
"""How often a run that waits for another one looks whether that is done."""

Key = tuple[bytes, str]
"""The SHA-256 of an image's bytes, and the name of a view of it."""


class StoredRows:
    """The rows of a store, counted through its files; each has the same shape and type."""

    def __init__(self) -> None:
        self.positions: dict[Key, int] = {}
        self._parts: list[Tensor] = []
        self._ends: NDArray[np.int64] = np.zeros(0, np.int64)

    def __contains__(self, key: Key) -> bool:
        return key in self.positions

    def add(self, keys: Sequence[Key], rows: Tensor) -> None:
        """Append one file's rows (N, ...)."""
        first = int(self._ends[-1]) if self._parts else 0
        self._parts.append(rows)
        self._ends = np.append(self._ends, first + len(rows))
        self.positions.update(zip(keys, range(first, first + len(rows)), strict=True))

    def gather(self, positions: NDArray[np.int64]) -> Tensor:
        """Copy the rows at positions (N,) into one tensor (N, ...)."""
        parts = np.searchsorted(self._ends, positions, side="right")
        if not self._parts:
            return torch.empty(0)
        gathered = self._parts[0].new_empty((len(positions), *self._parts[0].shape[1:]))
        for number in np.unique(parts):
            wanted = np.flatnonzero(parts == number)
            part = self._parts[number]
            inside = positions[wanted] - (self._ends[number] - len(part))
            gathered[torch.from_numpy(wanted)] = part[torch.from_numpy(inside)]
        return gathered


def encode(keys: Sequence[Key], rows: Tensor) -> bytes:
    """One of a store's files, of rows (N, ...)."""
    names = sorted({view for _, view in keys})
    digests = np.frombuffer(b"".join(digest for digest, _ in keys), np.uint8)
    return save(
        {
            "digests": torch.from_numpy(digests.reshape(len(keys), 32).copy()),
            "views": torch.tensor([names.index(view) for _, view in keys], dtype=torch.int32),
            "features": rows.contiguous(),
        },
        metadata={"views": json.dumps(names)},
    )


def decode(content: bytes) -> tuple[list[Key], Tensor]:
    """The keys and the rows (N, ...) of one of a store's files."""
    tensors = load(content)
    # What is said of the tensors stands in the header, which begins with its length.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    names = json.loads(header["__metadata__"]["views"])
    return _keys(tensors["digests"], tensors["views"], names), tensors["features"]


def _keys(digests: Tensor, views: Tensor, names: Sequence[str]) -> list[Key]:
    content = digests.numpy().tobytes()
    return [
        (content[32 * row : 32 * row + 32], names[view]) for row, view in enumerate(views.tolist())
    ]


class FeatureStore:
    """The rows of one set of frozen layers under one preprocessing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, layers: Mapping[str, object]) -> "FeatureStore":
        """The store for everything, JSON-like, that decides what the rows are."""
        text = json.dumps({"version": VERSION, **layers}, sort_keys=True)
        return cls(cache_directory() / "features" / hashlib.sha256(text.encode()).hexdigest()[:32])

    def read(self) -> StoredRows:
        """Every stored row; a file that cannot be read is passed over."""
        stored = StoredRows()
        for path in sorted(self.directory.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    names = json.loads(file.metadata()["views"])
                    keys = _keys(file.get_tensor("digests"), file.get_tensor("views"), names)
                    rows = file.get_tensor("features")
                stored.add(keys, rows)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
                say(f"Ignored the cached features in {path}: {error}.")
        return stored

    def write(self, keys: Sequence[Key], rows: Tensor) -> None:
        """Add rows (N, ...) to the store. Raises UserError where they cannot be written."""
        content = encode(keys, rows)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomically(self.directory / f"{uuid.uuid4().hex}.safetensors", content)
        except OSError as error:
            raise self._unwritable(error) from None

    @contextmanager
    def computing(self, stop: StopSignal) -> Iterator[None]:
        """Held by the one run that computes; other runs wait, and then find it done.

        The processes of one run compute at the same time, each for other images.

        Raises:
            UserError: the directory cannot be made.
            Stopped: the job was asked to stop while it waited.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = (self.directory / f"lock{os.environ.get('RANK', '')}").open("w")
        except OSError as error:
            raise self._unwritable(error) from None
        with lock:
            if not _taken(lock):
                say("Waiting for another run that computes the same features.")
                # Not by a call that waits: after SIGTERM Python would go on waiting in it.
                while not _taken(lock):
                    stop.check()
                    time.sleep(SECONDS_BETWEEN_TRIES)
            yield

    def _unwritable(self, error: OSError) -> UserError:
        why = "is full" if error.errno == errno.ENOSPC else f"cannot be written ({error.strerror})"
        return UserError(
            f"The cache {self.directory} {why}. Set KENNEL_CACHE_DIR to a directory with more room."
        )


def _taken(lock: IO[str]) -> bool:
    """Whether this process holds a lock now, which it lets go of when it closes the file."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def cache_directory() -> Path:
    """KENNEL_CACHE_DIR, or `kennel` in the user's cache."""
    given = os.environ.get("KENNEL_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kennel"
