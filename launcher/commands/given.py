"""Options that several commands share, and reading what they were given."""

import argparse
from collections.abc import Iterable
from typing import Any

from container.errors import UserError
from container.hyperparameters import declarations
from launcher import settings

_BARE: dict[str, dict[str, Any]] = {"debug": {"nargs": "?", "const": "standard"}}
"""Hyperparameters that mean something as a flag without a value."""


def common_flags(parser: argparse.ArgumentParser) -> None:
    """`--dry-run`, `--json` and every setting."""
    group = parser.add_argument_group("settings, each also in the environment and in kennel.toml")
    for declared in settings.declarations():
        default = f"; default {declared.default}" if declared.default is not None else ""
        group.add_argument(
            f"--{declared.flag}",
            dest=f"setting_{declared.name}",
            metavar="VALUE",
            help=f"{declared.meaning} (${declared.variables[0]}{default})",
        )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the requests that would be sent, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def chosen_settings(options: argparse.Namespace) -> dict[str, object]:
    """The settings that were given as flags."""
    mark = "setting_"
    return {
        name.removeprefix(mark): value
        for name, value in vars(options).items()
        if name.startswith(mark) and value is not None
    }


def set_flags(parser: argparse.ArgumentParser) -> None:
    """`--set NAME=VALUE …`."""
    parser.add_argument(
        "--set",
        dest="assignments",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="hyperparameters of the job, such as lr=0.01 arch=resnet50",
    )


def env_flag(parser: argparse.ArgumentParser) -> None:
    """`--env NAME=VALUE …`."""
    parser.add_argument(
        "--env",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="what serve reads from its environment, such as KENNEL_PRECISION=int8",
    )


def environment(given: Iterable[str]) -> dict[str, str]:
    """What `--env` was given. Raises UserError."""
    return _pairs(given, "--env", "KENNEL_PRECISION=int8")


def range_flag(parser: argparse.ArgumentParser) -> None:
    """`--range NAME=RANGE …`."""
    parser.add_argument(
        "--range",
        dest="ranges",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=RANGE",
        help="what to search: lr=1e-4:1e-1:log epochs=2:10 batch-size=32,64 (the declared ranges)",
    )


def hyperparameter_flags(parser: argparse.ArgumentParser) -> None:
    """Every hyperparameter as a flag of its own, unless another option has its name."""
    taken = {f"--{declared.flag}" for declared in settings.declarations()}
    taken |= {text for action in parser._actions for text in action.option_strings}
    group = parser.add_argument_group("hyperparameters, each also by --set")
    for declared in declarations():
        if f"--{declared.name}" in taken:
            continue
        spellings = dict.fromkeys((f"--{declared.name}", f"--{declared.name.replace('-', '_')}"))
        group.add_argument(
            *spellings,
            dest=f"hyperparameter_{declared.name}",
            **_BARE.get(declared.name, {}),
            metavar="VALUE",
            help=f"{declared.meaning} ({declared.check.describe()}; default {declared.default})",
        )


def assigned(assignments: Iterable[str]) -> dict[str, object]:
    """What `--set` was given. Raises UserError."""
    pairs = _pairs(assignments, "--set", "lr=0.01")
    return {name.replace("_", "-"): value for name, value in pairs.items()}


def _pairs(given: Iterable[str], flag: str, example: str) -> dict[str, str]:
    """`NAME=VALUE` pairs, the last of a name winning. Raises UserError."""
    values: dict[str, str] = {}
    for assignment in given:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise UserError(f"{flag} takes NAME=VALUE, such as {example}, got {assignment!r}.")
        values[name] = value
    return values
