"""AWS's edge, answered by moto on loopback over real HTTP."""

import os
import urllib.request
from collections.abc import Iterator

import pytest
from botocore.config import Config
from launcher_workspace import REGION, ROLE, Workspace
from moto.server import ThreadedMotoServer

from launcher import backends


@pytest.fixture(scope="session")
def moto_address() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def cloud(
    workspace: Workspace, moto_address: str, monkeypatch: pytest.MonkeyPatch
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
    # What moto does not know it answers with an error of the server, which is not worth repeating.
    once = Config(retries={"total_max_attempts": 1})
    monkeypatch.setattr("launcher.aws.RETRIES", once)
    yield workspace
    reset(moto_address)
    for name in given:
        os.environ.pop(name, None)


def reset(address: str) -> None:
    """Forget all that was made."""
    message = urllib.request.Request(f"{address}/moto-api/reset", method="POST")
    urllib.request.urlopen(message).close()
