"""`python -m container.debugging check PATH`: the rules on what a training left, after the fact."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from container.debugging import watch
from container.debugging.catalog import AnyRule, create, find
from container.debugging.profiler.profile import read
from container.debugging.profiler.profile_rule import ProfileRule
from container.debugging.profiler.rules import PROFILE_RULES
from container.debugging.profiler.step_log import STEPS_FILE
from container.debugging.results import Result, as_json
from container.debugging.rules import RULES
from container.debugging.rules.rule import Rule, evaluate
from container.debugging.selection import from_text
from container.debugging.tensors import Tensors
from container.errors import UserError

NONE_FIRED, FIRED, WRONG_USE = 0, 1, 2


def main(argv: Sequence[str]) -> int:
    """Print one JSON line for each rule; the exit code says whether any fired."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "watch":
            chosen = [rule for rule in from_text(options.rules) if isinstance(rule, Rule)]
            watch.run(options.path, options.results, chosen, stop=options.stop)
            return NONE_FIRED
        return _check(options.path, options.rule, options.param)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_USE


def _check(path: Path, names: Sequence[str], settings: Sequence[str]) -> int:
    if (path / "system").is_dir() or (path / STEPS_FILE).exists():
        profile = read(path)
        looking = _chosen(names, settings, PROFILE_RULES)
        return _printed(
            evaluate(rule, profile) for rule in looking if isinstance(rule, ProfileRule)
        )
    chosen = _chosen(names, settings, RULES)
    if not any(path.glob("index/*/*.json")):
        raise UserError(f"{path} is not a directory of smdebug's: it has no index.")
    tensors = Tensors(path)
    for damaged in tensors.damaged:
        print(f"left out {damaged}", file=sys.stderr)
    return _printed(evaluate(rule, tensors) for rule in chosen if isinstance(rule, Rule))


def _printed(results: Iterable[Result]) -> int:
    fired = False
    for result in results:
        fired = fired or result.fired
        print(as_json(result))
    return FIRED if fired else NONE_FIRED


def _chosen(
    names: Sequence[str], settings: Sequence[str], every: Sequence[type[AnyRule]]
) -> list[AnyRule]:
    """All rules, or those named; a parameter goes to every chosen rule that has it."""
    kinds = [find(name) for name in names] or list(every)
    for kind in kinds:
        if not issubclass(kind, every[0].__mro__[1]):
            wanted = "tensors" if issubclass(kind, Rule) else "a profile"
            raise UserError(f"{kind.__name__} looks at {wanted}, which this directory is not.")
    given: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--param takes NAME=VALUE, not {setting!r}.")
        given[key] = value
    known = {field for kind in kinds for field in kind.__dataclass_fields__}
    for name in set(given) - known:
        raise UserError(f"None of the chosen rules has a parameter {name!r}.")
    return [
        create(
            kind.__name__,
            {name: value for name, value in given.items() if name in kind.__dataclass_fields__},
        )
        for kind in kinds
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m container.debugging", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check",
        help="run the rules on an smdebug directory, or on a profile",
        epilog=f"Exit code {NONE_FIRED}: none fired, {FIRED}: one did, {WRONG_USE}: wrong use. "
        f"Rules on tensors: {', '.join(kind.__name__ for kind in RULES)}. "
        f"Rules on a profile: {', '.join(kind.__name__ for kind in PROFILE_RULES)}.",
    )
    check.add_argument("path", type=Path, help="such as job/output/tensors or job/output/profiler")
    check.add_argument(
        "--rule", action="append", default=[], help="only this rule; may be given again"
    )
    check.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    live = commands.add_parser("watch", help="what a training starts beside itself")
    live.add_argument("path", type=Path)
    live.add_argument("results", type=Path)
    live.add_argument("--rules", required=True)
    live.add_argument("--stop", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
