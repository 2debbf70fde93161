"""What `doctor` looks at: each finding is well, or says what to do."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

from botocore.exceptions import BotoCoreError, ClientError

from container.errors import UserError
from launcher import quotas, refusals
from launcher.local import containers
from launcher.local.docker import DockerEngine
from launcher.quotas import Quotas, Use
from launcher.session import Session

Look = Callable[[Session], str]

PROGRAMS_NEED = ("torch", "torchvision", "openvino", "flask", "gunicorn", "sagemaker_training")
OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    well: bool | None
    """None where AWS does not let us look, or says nothing of it."""
    says: str


def findings(session: Session) -> Iterator[Finding]:
    """Everything that the chosen backend needs."""
    looks: dict[str, tuple[tuple[str, Look], ...]] = {
        "process": (("Python", _python), ("packages", _packages)),
        "docker": (("Python", _python), ("Docker and the image", _docker)),
        "sagemaker": (
            ("Python", _python),
            ("region", lambda session: session.backend.region),
            ("credentials", _credentials),
            ("role", _role),
            ("image", _image),
            ("Docker, for push", _docker_for_push),
        ),
    }
    for what, look in looks[session.settings.on]:
        yield _finding(what, partial(look, session))
    if session.settings.on == "sagemaker":
        wanted = quotas.uses(session.settings)
        known = cache(partial(_quotas, session, wanted))
        for use in wanted:
            yield _finding(f"quota for {use.what}", partial(_quota, known, use))


def _quota(known: Callable[[], Quotas], use: Use) -> str:
    return known().says(use)


def _quotas(session: Session, wanted: tuple[Use, ...]) -> Quotas:
    """Made within a look: without a region there is not even a client."""
    return Quotas(session.backend.client("service-quotas"), session.backend.region, wanted)


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except UserError as error:
        return Finding(what, False, str(error))
    except LookupError as error:
        return Finding(what, None, str(error.args[0]))
    except ClientError as error:
        well = None if refusals.is_denied(error) else False
        return Finding(what, well, refusals.sentence(error))
    except BotoCoreError as error:
        return Finding(what, False, refusals.sentence(error))


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


def _docker_for_push(session: Session) -> str:
    """Only building the image needs it, which may be done on another machine."""
    try:
        return f"version {containers.docker('version', '--format', '{{.Server.Version}}')}"
    except UserError as error:
        raise LookupError(f"{error} Nothing but `./launch.py push` needs it.") from None


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
    named, _, digest = image.partition("/")[2].partition("@")
    name, _, tag = named.partition(":")
    wanted = {"imageDigest": digest} if digest else {"imageTag": tag or "latest"}
    try:
        session.backend.client("ecr").describe_images(
            registryId=image[:12], repositoryName=name, imageIds=[wanted]
        )
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        if code in ("RepositoryNotFoundException", "ImageNotFoundException"):
            raise UserError(f"{image} is not there: run `./launch.py push`.") from None
        raise
    return image
