"""The jobs folder: one directory per job, model or endpoint, one JSON record in each."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from botocore.exceptions import ClientError

from container.errors import UserError
from launcher import records

ACCOUNT = "000000000000"
STOP = "stop-requested"
"""A file in a job's directory: a signal could reach its supervisor before it listens."""
SERVER = "server.json"
"""The server that a batch transform has started, for as long as it runs."""


@dataclass(frozen=True)
class Resource:
    """One kind of what SageMaker keeps, as the API names it."""

    kind: str
    name_member: str
    arn_member: str


TRAINING_JOB = Resource("training-job", "TrainingJobName", "TrainingJobArn")
TUNING_JOB = Resource(
    "hyper-parameter-tuning-job", "HyperParameterTuningJobName", "HyperParameterTuningJobArn"
)
TRANSFORM_JOB = Resource("transform-job", "TransformJobName", "TransformJobArn")
MODEL = Resource("model", "ModelName", "ModelArn")
ENDPOINT_CONFIG = Resource("endpoint-config", "EndpointConfigName", "EndpointConfigArn")
ENDPOINT = Resource("endpoint", "EndpointName", "EndpointArn")

RESOURCES = (TRAINING_JOB, TUNING_JOB, TRANSFORM_JOB, MODEL, ENDPOINT_CONFIG, ENDPOINT)


@dataclass(frozen=True)
class JobsFolder:
    """Where everything on this machine is kept."""

    root: Path

    def directory(self, resource: Resource, name: str) -> Path:
        """The directory of one named thing."""
        return self.root / f"{resource.kind}s" / name

    def record_path(self, resource: Resource, name: str) -> Path:
        """Its record."""
        return self.directory(resource, name) / "record.json"

    def create(self, resource: Resource, request: Mapping[str, Any], **facts: Any) -> Path:
        """Keep a new thing. Raises ClientError where the name is taken."""
        name = request[resource.name_member]
        directory = self.directory(resource, name)
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            operation = f"Create{resource.name_member.removesuffix('Name')}"
            message = f"{resource.kind} {name!r} already exists."
            raise client_error("ResourceInUse", message, operation) from None
        record = {
            "request": dict(request),
            resource.arn_member: self.arn(resource, name),
            "CreationTime": now(),
            **facts,
        }
        records.write(directory / "record.json", record)
        return directory

    def arn(self, resource: Resource, name: str) -> str:
        """An ARN of the service's form, in a region that does not exist."""
        return f"arn:aws:sagemaker:local:{ACCOUNT}:{resource.kind}/{name}"

    def find(self, resource: Resource, name: str, operation: str) -> dict[str, Any]:
        """The record of a thing. Raises ClientError where there is none, as the service does."""
        record = records.read(self.record_path(resource, name))
        if not record:
            message = f"Could not find {resource.kind} {name!r}."
            raise client_error("ValidationException", message, operation)
        return record

    def locked(self, resource: Resource, name: str) -> AbstractContextManager[None]:
        """Let no other command change a thing; for ever, where this very thread has done so.

        The lock lies beside the thing's directory, which may be removed and made anew meanwhile.
        """
        return records.locked(self.directory(resource, name))

    def put(self, resource: Resource, name: str, **facts: Any) -> None:
        """Change some facts of a record that is locked. Raises ClientError where there is none."""
        record = self.find(resource, name, f"Update{resource.name_member.removesuffix('Name')}")
        records.write(self.record_path(resource, name), {**record, **facts})

    def all(self, resource: Resource) -> Iterator[dict[str, Any]]:
        """Every record of a kind, newest first."""
        paths = (self.root / f"{resource.kind}s").glob("*/record.json")
        # What another command deletes meanwhile has nothing in it.
        found = [record for path in paths if (record := records.read(path))]
        yield from sorted(found, key=lambda record: str(record["CreationTime"]), reverse=True)


def now() -> str:
    """The moment, as records hold it."""
    return datetime.now(timezone.utc).isoformat()


def moment(text: str) -> datetime:
    """A moment as boto3 gives it."""
    return datetime.fromisoformat(text)


def client_error(code: str, message: str, operation: str) -> ClientError:
    """The error that boto3 raises for a refusal by the service."""
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def local_path(uri: str) -> Path:
    """The path of a `file://` address. Raises UserError for an address elsewhere."""
    parts = urlparse(uri)
    if parts.scheme != "file":
        raise UserError(
            f"{uri} is not on this machine: jobs that run here read file:// addresses and folders. "
            "Download it first, or add --on sagemaker."
        )
    return Path(unquote(parts.path))
