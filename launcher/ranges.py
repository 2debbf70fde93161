"""What a tuning searches: `lr=1e-4:1e-1:log`, `batch-size=32,64,128`, as the API's ranges."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from container.errors import UserError
from container.hyperparameters import (
    Choice,
    Declaration,
    Flag,
    Integer,
    TuningRange,
    declarations,
    refuse_unknown,
)

SCALINGS = {"log": "Logarithmic", "linear": "Linear", "reverse": "ReverseLogarithmic"}


@dataclass(frozen=True)
class Values:
    """A list of values to choose from."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Between:
    """All numbers between two bounds."""

    name: str
    low: str
    high: str
    scaling: str
    whole: bool


Range = Values | Between


def read(texts: Iterable[str]) -> list[Range]:
    """The ranges as the user wrote them.

    Raises:
        UserError: a form, a name or a value that cannot be.
    """
    known = {declared.name: declared for declared in declarations()}
    found: dict[str, Range] = {}
    for text in texts:
        given, equals, value = text.partition("=")
        name = given.replace("_", "-")
        if not equals or not value:
            raise UserError(
                f"--range takes NAME=LOW:HIGH[:log] or NAME=VALUE,VALUE …, got {text!r}."
            )
        if name not in known:
            refuse_unknown(given, f"There is no hyperparameter {given!r} to search")
        if name in found:
            raise UserError(f"--range names {name} twice.")
        found[name] = _between(known[name], value) if ":" in value else _values(known[name], value)
    return list(found.values())


def declared_ranges(without: Iterable[str] = ()) -> list[Range]:
    """The ranges that are declared beside the hyperparameters, but for those that are fixed."""
    fixed = {name.replace("_", "-") for name in without}
    found: list[Range] = []
    for declared in declarations():
        if declared.name in fixed or declared.tune is None:
            continue
        if isinstance(declared.tune, TuningRange):
            scaling = {"Linear": "linear", "Logarithmic": "log"}[declared.tune.scaling]
            text = f"{declared.tune.low:g}:{declared.tune.high:g}:{scaling}"
            found.append(_between(declared, text))
        else:
            found.append(_values(declared, ",".join(map(str, declared.tune))))
    return found


def as_request(ranges: Iterable[Range]) -> dict[str, Any]:
    """The API's `ParameterRanges`."""
    request: dict[str, list[dict[str, Any]]] = {}
    for entry in ranges:
        if isinstance(entry, Values):
            kind, given = "Categorical", {"Name": entry.name, "Values": list(entry.values)}
        else:
            kind = "Integer" if entry.whole else "Continuous"
            given = {
                "Name": entry.name,
                "MinValue": entry.low,
                "MaxValue": entry.high,
                "ScalingType": entry.scaling,
            }
        request.setdefault(f"{kind}ParameterRanges", []).append(given)
    return request


def described(ranges: Iterable[Range]) -> str:
    """The ranges for a person to read."""
    texts = []
    for entry in ranges:
        if isinstance(entry, Values):
            texts.append(f"{entry.name} in {', '.join(entry.values)}")
        else:
            scaling = ", logarithmic" if entry.scaling == "Logarithmic" else ""
            texts.append(f"{entry.name} from {entry.low} to {entry.high}{scaling}")
    return "; ".join(texts)


def combinations(ranges: Iterable[Range]) -> int:
    """How many trials a grid of the lists has."""
    return math.prod(len(entry.values) for entry in ranges if isinstance(entry, Values))


def _values(declared: Declaration, text: str) -> Values:
    values = tuple(part.strip() for part in text.split(",") if part.strip())
    checked = tuple(_written(declared.check.parse(declared.name, value)) for value in values)
    if len(set(checked)) != len(checked):
        raise UserError(f"--range {declared.name} names a value twice: {text}.")
    return Values(declared.name, checked)


def _between(declared: Declaration, text: str) -> Between:
    parts = text.split(":")
    if isinstance(declared.check, Choice | Flag):
        raise UserError(f"--range {declared.name} must be a list, such as {declared.name}=a,b.")
    scaling = parts[2] if len(parts) == 3 else "auto"
    if len(parts) not in (2, 3) or scaling not in (*SCALINGS, "auto"):
        raise UserError(
            f"--range {declared.name} must be LOW:HIGH or LOW:HIGH:SCALING with a scaling of "
            f"{', '.join(SCALINGS)}; got {text!r}."
        )
    low, high = (declared.check.parse(declared.name, part) for part in parts[:2])
    if low is None or high is None:
        raise UserError(f"--range {declared.name} must be between two numbers, got {text}.")
    if float(low) >= float(high):
        raise UserError(f"--range {declared.name} must go from low to high, got {text}.")
    return Between(
        declared.name,
        _written(low),
        _written(high),
        SCALINGS.get(scaling, "Auto"),
        isinstance(declared.check, Integer),
    )


def _written(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def fixed_only(values: Mapping[str, str], ranges: Iterable[Range]) -> dict[str, str]:
    """The hyperparameters that are not searched. Raises UserError for one that is both."""
    for entry in ranges:
        if entry.name in values:
            raise UserError(
                f"{entry.name} is both fixed ({values[entry.name]}) and searched; leave one out."
            )
    return dict(values)
