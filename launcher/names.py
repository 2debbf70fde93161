"""The names that Kennel gives to jobs, models and endpoints."""

import re
import secrets
from datetime import datetime, timezone

from container.errors import UserError

TAGS = [{"Key": "kennel:made-by", "Value": "kennel"}]
"""On all that Kennel makes; `delete` touches nothing without it."""

_LONGEST = {"tuning": 32}
"""A tuning job's name is a prefix of its trials' names, so SageMaker allows it 32 characters."""


def tags(project: str) -> list[dict[str, str]]:
    """The tags of what is made for one project."""
    return [*TAGS, {"Key": "kennel:project", "Value": project}]


def unique(project: str, kind: str, now: datetime | None = None) -> str:
    """A name that no other has, such as `kennel-train-1121-093015-3f2a`."""
    moment = (now or datetime.now(timezone.utc)).strftime("%m%d-%H%M%S")
    return f"{stem(project, kind)}-{kind}-{moment}-{secrets.token_hex(2)}"


def stem(project: str, kind: str) -> str:
    """What the names of a kind begin with: the project, or as much of it as there is room for."""
    return project[: _LONGEST.get(kind, 63) - len(f"-{kind}-1121-093015-3f2a")].rstrip("-")


def is_unique(name: str) -> bool:
    """Whether it is a name that `unique` gave."""
    return re.fullmatch(r".+-[a-z]+-\d{4}-\d{6}-[0-9a-f]{4}", name) is not None


def check_project(name: str) -> str:
    """A project's name starts every name made for it. Raises UserError."""
    if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}", name):
        raise UserError(
            f"project must be at most 32 letters and digits with hyphens in between, got {name!r}."
        )
    return name
