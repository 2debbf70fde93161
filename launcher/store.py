"""Where data sets and artifacts lie: an address for a folder, and what is at an address."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlparse

from container.errors import UserError

Report = Callable[[str], None]


class Store(Protocol):
    """S3, or this machine's own files."""

    def address(self, *names: str) -> str:
        """Where results of that name go."""

    def locate(self, path: Path) -> str:
        """The address that a folder or file of this machine has there."""

    def upload(self, path: Path, report: Report) -> str:
        """Bring a folder or file there, if it is not there yet; its address."""

    def folders(self, address: str) -> tuple[str, ...]:
        """The names of the folders directly under an address."""

    def files(self, address: str) -> tuple[str, ...]:
        """The names of all files under an address, relative to it."""

    def has(self, address: str) -> bool:
        """Whether there is a file at an address."""

    def fetch(self, address: str) -> bytes:
        """The content of one file."""

    def copy(self, source: str, target: str) -> None:
        """Put what is at one address at another, too."""


@dataclass(frozen=True)
class FileStore:
    """This machine: files stay where they are."""

    root: Path

    def address(self, *names: str) -> str:
        """Where results of that name go."""
        return self.root.joinpath(*names).resolve().as_uri()

    def locate(self, path: Path) -> str:
        """The file's own address."""
        return path.resolve().as_uri()

    def upload(self, path: Path, report: Report) -> str:
        """Nothing to do: what is here is where it is needed."""
        return self.locate(path)

    def folders(self, address: str) -> tuple[str, ...]:
        """The names of the folders directly under an address."""
        path = _path(address)
        if not path.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir()))

    def files(self, address: str) -> tuple[str, ...]:
        """The names of all files under an address, relative to it."""
        path = _path(address)
        return tuple(
            sorted(
                entry.relative_to(path).as_posix() for entry in path.rglob("*") if entry.is_file()
            )
        )

    def has(self, address: str) -> bool:
        """Whether there is a file at an address."""
        return _path(address).is_file()

    def fetch(self, address: str) -> bytes:
        """The content of one file. Raises UserError where there is none."""
        try:
            return _path(address).read_bytes()
        except OSError as error:
            raise UserError(f"{address} cannot be read: {error.strerror}.") from None

    def copy(self, source: str, target: str) -> None:
        """Put what is at one address at another, too. Raises UserError where there is nothing."""
        place = _path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(_path(source), place)
        except OSError as error:
            raise UserError(f"{source} cannot be copied: {error.strerror}.") from None


def _path(address: str) -> Path:
    parts = urlparse(address)
    if parts.scheme != "file":
        raise UserError(f"{address} is not on this machine; add --on sagemaker to use S3.")
    return Path(unquote(parts.path))
