"""What `doctor` looks at: each finding is well, or says what to do."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from container.errors import UserError
from launcher import refusals
from launcher.local.docker import DockerEngine
from launcher.session import Session

PROGRAMS_NEED = ("torch", "torchvision", "openvino", "flask", "gunicorn", "sagemaker_training")
OLDEST_PYTHON = (3, 10)
_IN_USE = {"training": "for training job usage", "endpoint": "for endpoint usage"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    well: bool
    says: str


def findings(session: Session) -> Iterator[Finding]:
    """Everything that the chosen backend needs."""
    looks: dict[str, list[tuple[str, Callable[[Session], str]]]] = {
        "process": [("Python", _python), ("packages", _packages)],
        "docker": [("Python", _python), ("Docker and the image", _docker)],
        "sagemaker": [
            ("Python", _python),
            ("region", lambda session: session.backend.region),
            ("credentials", _credentials),
            ("role", _role),
            ("image", _image),
            ("quota for training", lambda s: _quota(s, s.settings.instance_type, "training")),
            (
                "quota for endpoints",
                lambda s: _quota(s, s.settings.endpoint_instance_type, "endpoint"),
            ),
        ],
    }
    for what, look in looks[session.settings.on]:
        try:
            yield Finding(what, True, look(session))
        except UserError as error:
            yield Finding(what, False, str(error))
        except (ClientError, BotoCoreError) as error:
            yield Finding(what, False, refusals.sentence(error))


def _python(session: Session) -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        raise UserError(f"Python {version} is too old; use 3.10 or newer.")
    return version


def _packages(session: Session) -> str:
    missing = [name for name in PROGRAMS_NEED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} cannot be imported: run `make venv`, use .venv.")
    return "all that train and serve import"


def _docker(session: Session) -> str:
    DockerEngine().ready(session.backend.image)
    return session.backend.image


def _credentials(session: Session) -> str:
    identity = session.backend.client("sts").get_caller_identity()
    return f"account {identity['Account']}, {identity['Arn']}"


def _role(session: Session) -> str:
    arn = session.backend.role
    try:
        role = session.backend.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except ClientError as error:
        if refusals.is_missing(error):
            raise UserError(
                f"There is no role {arn}: make it with the policies of `doctor --policies`."
            ) from None
        raise
    if "sagemaker.amazonaws.com" not in str(role["AssumeRolePolicyDocument"]):
        raise UserError(
            f"{arn} does not let SageMaker work as it: its trust policy must allow "
            "sagemaker.amazonaws.com to assume it."
        )
    return arn


def _image(session: Session) -> str:
    image = session.backend.image
    name, _, tag = image.partition("/")[2].partition(":")
    try:
        session.backend.client("ecr").describe_images(
            registryId=image[:12], repositoryName=name, imageIds=[{"imageTag": tag or "latest"}]
        )
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        if code in ("RepositoryNotFoundException", "ImageNotFoundException"):
            raise UserError(f"{image} is not there: run `./launch.py push`.") from None
        raise
    return image


def _quota(session: Session, machine: str, use: str) -> str:
    wanted = f"{machine} {_IN_USE[use]}"
    pages = session.backend.client("service-quotas").get_paginator("list_service_quotas")
    for page in pages.paginate(ServiceCode="sagemaker"):
        for quota in page["Quotas"]:
            if quota["QuotaName"] == wanted:
                if quota["Value"] < 1:
                    raise UserError(
                        f"The quota {wanted!r} is 0: ask for more in Service Quotas, or choose "
                        "another machine."
                    )
                return f"{quota['Value']:g} of {machine}"
    return f"{machine}: no quota of that name was found"
