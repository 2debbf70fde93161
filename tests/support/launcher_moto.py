"""AWS's edge, answered by moto on loopback over real HTTP."""

import os
import urllib.request
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.model import OperationModel
from launcher_workspace import REGION, ROLE, Workspace
from moto.server import ThreadedMotoServer

from launcher import backends, policies

_NEEDED = {
    ("s3", "HeadObject"): ("s3:GetObject",),
    ("s3", "HeadBucket"): ("s3:ListBucket",),
    ("s3", "ListObjectsV2"): ("s3:ListBucket",),
    ("s3", "CreateMultipartUpload"): ("s3:PutObject",),
    ("s3", "UploadPart"): ("s3:PutObject",),
    ("s3", "CompleteMultipartUpload"): ("s3:PutObject",),
    ("s3", "CopyObject"): ("s3:GetObject", "s3:PutObject"),
    ("s3", "UploadPartCopy"): ("s3:GetObject", "s3:PutObject"),
}
"""Operations whose permission has another name."""


@pytest.fixture(scope="session")
def moto_address() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def asked() -> set[str]:
    """The permissions that the requests so far have needed."""
    return set()


@pytest.fixture
def cloud(
    workspace: Workspace, moto_address: str, monkeypatch: pytest.MonkeyPatch, asked: set[str]
) -> Iterator[Workspace]:
    """A working directory whose AWS is moto's server, empty at first."""
    given = {
        "AWS_ENDPOINT_URL": moto_address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "KENNEL_ON": "sagemaker",
        "KENNEL_ROLE": ROLE,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(backends, "SAGEMAKER_SECONDS", 0.05)
    monkeypatch.setattr("launcher.aws.boto3", SimpleNamespace(Session=partial(_recorded, asked)))
    # What moto does not know it answers with an error of the server, which is not worth repeating.
    once = Config(retries={"total_max_attempts": 1})
    monkeypatch.setattr("launcher.aws.RETRIES", once)
    yield workspace
    reset(moto_address)
    for name in given:
        os.environ.pop(name, None)
    assert asked <= _granted(), "the smallest policies do not allow it"


def _recorded(asked: set[str], **given: Any) -> boto3.Session:
    """A session whose clients note which permissions their requests need."""
    session = boto3.Session(**given)

    def note(model: OperationModel, **_: Any) -> None:
        service = model.service_model.signing_name
        asked.update(_NEEDED.get((service, model.name), (f"{service}:{model.name}",)))

    session.events.register("before-call", note)
    return session


def _granted() -> set[str]:
    """Every action that the policies for the person allow."""
    every = policies.all_of(bucket="b", prefix="p", region=REGION, role=ROLE, project="kennel")
    return {
        action
        for name, policy in every.items()
        if name.startswith("you")
        for statement in policy["Statement"]
        for action in statement["Action"]
    } | {"sts:GetCallerIdentity"}  # which nobody needs to be allowed


def reset(address: str) -> None:
    """Forget all that was made."""
    message = urllib.request.Request(f"{address}/moto-api/reset", method="POST")
    urllib.request.urlopen(message).close()
