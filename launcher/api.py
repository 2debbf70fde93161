"""AWS's own service models: every request is a `Call`, checked before it is sent anywhere.

botocore checks types and required members. Names, lengths, counts and the words that a member may
hold are in its models too, but it leaves them to the service; here they are checked first.
"""

import difflib
import functools
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import ParamValidationError
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape
from botocore.validate import validate_parameters

from container.errors import UserError

LOCAL_ADDRESSES = frozenset({"S3Uri", "Url", "DestinationS3Uri", "InputLocationHeader"})
"""Shapes that hold an address in S3; on this machine `file://` takes the place of `s3://`."""

_JAVA_CLASSES = {
    r"[\p{Print}]": r"[\x20-\x7e]",
    r"\p{Print}": r"[\x20-\x7e]",
    r"[\p{ASCII}]": r"[\x00-\x7f]",
    r"\z": r"\Z",
    r"\p{ASCII}": r"[\x00-\x7f]",
    r"\p{L}": r"\w",
    r"\p{N}": r"\d",
    r"\p{Z}": r"\s",
}


@dataclass(frozen=True)
class Call:
    """One request to one AWS service."""

    service: str
    operation: str
    request: Mapping[str, Any]

    @property
    def method(self) -> str:
        """The boto3 client's method, such as `create_training_job`."""
        return str(xform_name(self.operation))

    def as_json(self) -> dict[str, Any]:
        """The form that `--dry-run` prints."""
        return {
            "service": self.service,
            "operation": self.operation,
            "request": dict(self.request),
        }


@functools.cache
def service_model(service: str) -> ServiceModel:
    """What botocore knows of a service; no account, no network."""
    return botocore.session.Session().get_service_model(service)


def check(call: Call, *, local: bool = False) -> None:
    """Refuse what the service would refuse.

    Raises:
        UserError: the request breaks the service's own model; the message names the member.
    """
    shape = service_model(call.service).operation_model(call.operation).input_shape
    if shape is None:
        return
    try:
        validate_parameters(dict(call.request), shape)
    except ParamValidationError as error:
        faults = str(error).splitlines()[1:]
        raise UserError(f"{call.operation} would be refused: {'; '.join(faults)}.") from None
    for fault in _faults(shape, call.request, call.operation):
        if local and fault.shape in LOCAL_ADDRESSES:
            continue
        raise UserError(f"{fault.sentence}")


@dataclass(frozen=True)
class _Fault:
    shape: str
    sentence: str


def _faults(shape: Shape, value: Any, where: str) -> Iterator[_Fault]:
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            if name in value and value[name] is not None:
                yield from _faults(member, value[name], f"{where}.{name}")
    elif isinstance(shape, ListShape):
        yield from _count_faults(shape, len(value), where)
        for index, entry in enumerate(value):
            yield from _faults(shape.member, entry, f"{where}[{index}]")
    elif isinstance(shape, MapShape):
        yield from _count_faults(shape, len(value), where)
        for key, entry in value.items():
            yield from _faults(shape.key, key, f"the name {key!r} in {where}")
            yield from _faults(shape.value, entry, f"{where}.{key}")
    elif isinstance(shape, StringShape):
        yield from _text_faults(shape, value, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        most = shape.metadata.get("max")
        if most is not None and value > float(most):
            yield _Fault(shape.name, f"{where} must be at most {most}, got {value}.")


def _count_faults(shape: Shape, count: int, where: str) -> Iterator[_Fault]:
    most = shape.metadata.get("max")
    if most is not None and count > int(most):
        yield _Fault(shape.name, f"{where} may hold {most} entries, got {count}.")


def _text_faults(shape: StringShape, value: str, where: str) -> Iterator[_Fault]:
    most = shape.metadata.get("max")
    pattern = shape.metadata.get("pattern")
    if shape.enum and value not in shape.enum:
        nearest = difflib.get_close_matches(value, shape.enum, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(shape.enum)}."
        yield _Fault(shape.name, f"{where} cannot be {value!r}; {hint}")
    if most is not None and len(value) > int(most):
        yield _Fault(
            shape.name, f"{where} may have {most} characters, got {len(value)}: {value[:40]!r}…"
        )
    elif pattern and not _matches(pattern, value):
        yield _Fault(shape.name, f"{where} must match {pattern}, got {value!r}.")


def _matches(pattern: str, value: str) -> bool:
    """The models' patterns are Java's; those that Python cannot read are left to the service."""
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    try:
        with warnings.catch_warnings():
            # Some have `[[`, which Python may read in another way one day.
            warnings.simplefilter("ignore", FutureWarning)
            return re.fullmatch(pattern, value, re.DOTALL) is not None
    except re.error:
        return True
