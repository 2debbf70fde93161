"""What a rule is: AWS's name, its parameters with their defaults, and a look at the tensors."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from container.debugging.results import Result
from container.debugging.tensors import Tensors
from container.errors import UserError


@dataclass(frozen=True)
class Finding:
    """An illness: at which step it shows, and by what."""

    step: int | None
    """None where no step shows it, but samples of the machine."""
    evidence: dict[str, Any]


def comes_first(step: int, found: Finding | None) -> bool:
    """Whether a step comes before that of what has been found so far, if anything has."""
    return found is None or found.step is None or step < found.step


class MissingError(Exception):
    """What the rule looks at was not saved; the message says what that is."""


@dataclass(frozen=True)
class Declared:
    """A rule's name, which is AWS's and the class's, and what it says to people."""

    illness: ClassVar[str]
    """What is wrong when it fires, in one sentence."""
    advice: ClassVar[str]
    """What to try, in plain words."""

    @property
    def name(self) -> str:
        """AWS's name."""
        return type(self).__name__


@dataclass(frozen=True)
class Rule(Declared):
    """A rule on tensors, with its parameters."""

    collections: ClassVar[tuple[str, ...]]
    """The smdebug collections that it needs; `a|b` means either. `debug=standard` saves all."""
    by_default: ClassVar[bool] = True
    """Whether it runs without being named; some need a threshold that only the user knows."""

    def check(self, tensors: Tensors) -> Finding | None:
        """The first sign of the illness. Raises MissingError."""
        raise NotImplementedError


def parameter(default: Any, meaning: str) -> Any:
    """Declare a rule's parameter on one line."""
    return field(default=default, metadata={"meaning": meaning})


Kind = TypeVar("Kind", bound=Declared)
Subject_contra = TypeVar("Subject_contra", contravariant=True)


class Checks(Protocol[Subject_contra]):
    """A rule on tensors, or on a profile."""

    @property
    def name(self) -> str:
        """AWS's name."""

    def check(self, subject: Subject_contra, /) -> Finding | None:
        """The first sign of the illness. Raises MissingError."""


def with_parameters(kind: type[Kind], given: Mapping[str, str]) -> Kind:
    """A rule with some of its parameters set from text.

    Raises:
        UserError: a name or value that the rule does not know.
    """
    defaults = {each.name: each.default for each in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            raise UserError(f"{kind.__name__} has no parameter {name!r}; known: {known}.")
        values[name] = _converted(kind.__name__, name, text, defaults[name])
    return kind(**values)


def evaluate(rule: Checks[Subject_contra], subject: Subject_contra) -> Result:
    """Run one rule; what goes wrong in it is its result too."""
    try:
        finding = rule.check(subject)
    except MissingError as error:
        return Result(rule.name, "Error", None, {"reason": str(error)})
    except Exception as error:  # one rule's fault is not another's
        return Result(rule.name, "Error", None, {"reason": f"{type(error).__name__}: {error}"})
    if finding is None:
        return Result(rule.name, "NoIssuesFound", None)
    return Result(rule.name, "IssuesFound", finding.step, finding.evidence)


def _converted(rule: str, name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif isinstance(default, str):
        return text
    else:
        try:
            return int(text) if isinstance(default, int) else float(text)
        except ValueError:
            pass
    raise UserError(f"{rule}'s parameter {name} cannot be {text!r}; its default is {default}.")
