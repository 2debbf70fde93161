"""S3 as a store: a folder goes there once, under a name that its content gives it."""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from boto3.exceptions import Boto3Error
from botocore.exceptions import ClientError

from container.errors import UserError
from launcher.refusals import is_missing
from launcher.store import Report

THREADS = 16
CHUNK = 1 << 20


@dataclass(frozen=True)
class S3Store:
    """One bucket, and the place in it that Kennel uses."""

    client: Any
    bucket: str
    prefix: str
    region: str

    def address(self, *names: str) -> str:
        """Where results of that name go."""
        return f"s3://{self.bucket}/{self._key(*names)}"

    def locate(self, path: Path) -> str:
        """The address that a folder or file has there: another when its content changes."""
        folder = self.address("data", f"{_stem(path)}-{_digest(path)}")
        return folder if path.is_dir() else f"{folder}/{path.name}"

    def upload(self, path: Path, report: Report) -> str:
        """Bring a folder or file there; what is there already stays, so it can be resumed."""
        self._ensure_bucket(report)
        address = self.locate(path)
        key = _split(address)[1]
        wanted = {
            (f"{key}/{file.relative_to(path).as_posix()}" if path.is_dir() else key): file
            for file in _files(path)
        }
        present = dict(self._listed(key))
        missing = [
            (name, file)
            for name, file in wanted.items()
            if present.get(name) != file.stat().st_size
        ]
        if not missing:
            report(f"  {path} is in S3 already: {address}")
            return address
        report(f"  uploading {len(missing)} of {len(wanted)} files to {address} …")
        with ThreadPoolExecutor(THREADS) as pool:
            done = pool.map(lambda entry: self._put(*entry), missing)
            for count, _ in enumerate(done, 1):
                if count % 1000 == 0:
                    report(f"  {count} of {len(missing)}")
        return address

    def folders(self, address: str) -> tuple[str, ...]:
        """The names of the folders directly under an address."""
        bucket, key = _split(address)
        prefix = key.rstrip("/") + "/" if key else ""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, Delimiter="/"
        )
        return tuple(
            entry["Prefix"].removeprefix(prefix).rstrip("/")
            for page in pages
            for entry in page.get("CommonPrefixes", ())
        )

    def files(self, address: str) -> tuple[str, ...]:
        """The names of all files under an address, relative to it."""
        bucket, key = _split(address)
        prefix = key.rstrip("/") + "/" if key else ""
        return tuple(name.removeprefix(prefix) for name, _ in self._listed(prefix, bucket))

    def has(self, address: str) -> bool:
        """Whether there is a file at an address."""
        bucket, key = _split(address)
        try:
            self.client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
        return True

    def fetch(self, address: str) -> bytes:
        """The content of one file."""
        bucket, key = _split(address)
        content: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def copy(self, source: str, target: str) -> None:
        """Put what is at one address at another, too, without bringing it here."""
        bucket, key = _split(source)
        place = _split(target)
        self.client.copy({"Bucket": bucket, "Key": key}, *place)

    def _key(self, *names: str) -> str:
        return "/".join(filter(None, (self.prefix, *names)))

    def _put(self, key: str, file: Path) -> None:
        try:
            self.client.upload_file(str(file), self.bucket, key)
        except Boto3Error as error:
            # boto3 wraps what S3 said, and says neither its code nor the operation but in prose.
            if isinstance(error.__context__, ClientError):
                raise error.__context__ from None
            raise UserError(f"{file} cannot be uploaded: {error}.") from None

    def _listed(self, prefix: str, bucket: str | None = None) -> Iterator[tuple[str, int]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket or self.bucket, Prefix=prefix
        )
        for page in pages:
            for entry in page.get("Contents", ()):
                yield entry["Key"], entry["Size"]

    def _ensure_bucket(self, report: Report) -> None:
        try:
            self.client.head_bucket(Bucket=self.bucket)
            return
        except ClientError as error:
            if not is_missing(error):
                raise
        report(f"  making the bucket {self.bucket} …")
        # us-east-1 is the one region that must not be named.
        place = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.client.create_bucket(
            Bucket=self.bucket, **({} if self.region == "us-east-1" else place)
        )


def _split(address: str) -> tuple[str, str]:
    parts = urlparse(address)
    if parts.scheme != "s3" or not parts.netloc:
        raise UserError(f"{address} is not in S3; give a folder of this machine, or s3://BUCKET/….")
    return parts.netloc, parts.path.lstrip("/")


def _files(path: Path) -> Sequence[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def _stem(path: Path) -> str:
    name = path.resolve().name.split(".")[0]
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def _digest(path: Path) -> str:
    """Of names and content, so that nothing old is ever taken for new, nor sent twice."""
    state = hashlib.blake2b()
    for file in _files(path):
        found = file.stat()
        state.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return _digest_of_content(path.absolute(), state.digest())


@functools.lru_cache(maxsize=8)
def _digest_of_content(path: Path, state: bytes) -> str:
    """It reads every byte, and a command asks several times; `state` changes with the files."""
    digest = hashlib.blake2b(digest_size=6)
    for file in _files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
