"""Features on disk, shared by every run whose backbone and preprocessing are the same.

A store is a directory of immutable safetensors files, each written in one step, so any number of
processes may read while one writes. Rows are found by the digest of an image's bytes and the name
of the view, so neither the split nor where the data lies matters.
"""

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from container.atomic import write_atomically
from container.progress import say

VERSION = 1
"""Counted up when the same inputs would give other features."""

Key = tuple[bytes, str]
"""The SHA-256 of an image's bytes, and the name of a view of it."""
Features = NDArray[np.float32]


class FeatureStore:
    """The features of one backbone under one preprocessing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, backbone: Mapping[str, object]) -> "FeatureStore":
        """The store for everything, JSON-like, that decides what the features are."""
        text = json.dumps({"version": VERSION, **backbone}, sort_keys=True)
        return cls(cache_directory() / "features" / hashlib.sha256(text.encode()).hexdigest()[:32])

    def read(self) -> dict[Key, Features]:
        """Every stored feature; a file that cannot be read is passed over."""
        found: dict[Key, Features] = {}
        for path in sorted(self.directory.glob("*.safetensors")):
            try:
                with safe_open(path, framework="numpy") as file:
                    names = json.loads(file.metadata()["views"])
                    digests = file.get_tensor("digests")
                    views = file.get_tensor("views")
                    features = file.get_tensor("features")
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                say(f"Ignored the cached features in {path}: {error}.")
                continue
            for digest, view, row in zip(digests, views, features, strict=True):
                found[digest.tobytes(), names[view]] = row
        return found

    def write(self, rows: Mapping[Key, Features]) -> None:
        """Add features to the store."""
        if not rows:
            return
        names = sorted({view for _, view in rows})
        content = save(
            {
                "digests": np.array([list(digest) for digest, _ in rows], dtype=np.uint8),
                "views": np.array([names.index(view) for _, view in rows], dtype=np.int32),
                "features": np.stack(list(rows.values())),
            },
            metadata={"views": json.dumps(names)},
        )
        write_atomically(self.directory / f"{uuid.uuid4().hex}.safetensors", content)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Held by the one process that computes; the others wait, and then find it done."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Waiting for another run that computes the same features.")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def cache_directory() -> Path:
    """KENNEL_CACHE_DIR, or `kennel` in the user's cache."""
    given = os.environ.get("KENNEL_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kennel"
