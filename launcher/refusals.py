"""AWS's and the machine's errors as one sentence: what was asked, what was said, what to do."""

import json

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

_EXPIRED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
)
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_THROTTLED = (
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
)
_TAKEN = ("ResourceInUse", "ResourceConflictException", "EntityAlreadyExists")
_MISSING = ("Could not find", "not found", "does not exist")


def sentence(error: BotoCoreError | ClientError | OSError) -> str:
    """The error for a person to read."""
    if isinstance(error, ClientError | OSError):
        return _refusal(error) if isinstance(error, ClientError) else _of_this_machine(error)
    if isinstance(error, NoRegionError):
        return "There is no AWS region: give --region, or set AWS_REGION."
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (
            "There are no AWS credentials: run `aws configure` or `aws sso login`, give "
            "--aws-profile, or work on this machine with --on process."
        )
    if isinstance(error, UnauthorizedSSOTokenError | TokenRetrievalError):
        return "The AWS log-in has expired: run `aws sso login` and repeat the command."
    if isinstance(error, ProfileNotFound | EndpointConnectionError):
        return f"{error} Check --aws-profile, --region and the network."
    return f"{type(error).__name__}: {error}"


def is_missing(error: ClientError) -> bool:
    """Whether AWS says that there is no such thing."""
    return any(text in _message(error) for text in _MISSING) or _code(error) in (
        "ResourceNotFound",
        "ResourceNotFoundException",
        "NoSuchEntity",
        "404",
    )


def is_refused(error: ClientError) -> bool:
    """Whether AWS says that this cannot be done with the thing as it is."""
    return _code(error) == "ValidationException"


def is_taken(error: ClientError) -> bool:
    """Whether AWS says that there is such a thing already."""
    return _code(error) in _TAKEN or "already exist" in _message(error)


def is_denied(error: ClientError) -> bool:
    """Whether AWS says that these credentials may not do this."""
    return _code(error) in _DENIED


def container_message(error: ClientError) -> str:
    """What the container answered, where it was the container that refused an invocation."""
    text = str(error.response.get("OriginalMessage", ""))
    try:
        content = json.loads(text)
    except ValueError:
        return text
    return str(content.get("error", text)) if isinstance(content, dict) else text


def _refusal(error: ClientError) -> str:
    code, said = _code(error), f"{error.operation_name}: {_message(error)}"
    if code == "ModelError":
        return f"The endpoint refused: {container_message(error) or _message(error)}"
    if code in _EXPIRED:
        return f"The AWS credentials have expired or are not valid ({said}): log in again."
    if is_denied(error):
        return (
            f"AWS does not allow this ({said}). docs/launcher-permissions.md lists what is needed."
        )
    if code in _THROTTLED:
        return f"AWS asks for patience ({said}): wait a minute and repeat the command."
    if code == "ResourceLimitExceeded":
        return f"{said} Ask for more in Service Quotas, or choose another instance type."
    return said if code in ("ValidationException", "ValidationError") else f"{said} ({code})"


def _of_this_machine(error: OSError) -> str:
    if error.filename is None:
        return f"{type(error).__name__}: {error}"
    return f"{error.filename} cannot be read or written: {error.strerror}."


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _message(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", ""))
