"""`launch.py delete`: stop and remove what Kennel made, and nothing else."""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial

from botocore.exceptions import ClientError

from container.errors import UserError
from launcher import autoscaling, components, endpoint, front, inventory, refusals
from launcher.session import Session

HELP = "stop and remove what was made, found by its tags"
_Removals = Mapping[str, Callable[[], object]]


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--endpoint",
        nargs="?",
        const="",
        metavar="NAME",
        help="one endpoint alone, with its configuration and models (the last one)",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Endpoints first, then what they were made of; jobs that are over and their results stay."""
    console = session.console
    removals = _removals(session, options.endpoint)
    if not removals:
        console.say(f"There is nothing to delete of the project {session.settings.project}.")
        console.result({"deleted": []})
        return 0
    for what in removals:
        console.say(f"  {what}")
    if options.dry_run:
        console.result({"would_delete": list(removals)})
        return 0
    if not options.yes:
        _ask(len(removals))
    failures = _remove(removals)
    last = f"{inventory.ENDPOINT.title} {session.last('endpoint')}"
    if last not in failures and (options.endpoint is None or last in removals):
        session.remember(endpoint=None)
    deleted = [what for what in removals if what not in failures]
    console.say(f"Deleted {len(deleted)}. Trained models and data stay.")
    console.result({"deleted": deleted, "failed": failures})
    if failures:
        said = " ".join(f"{what}: {why}" for what, why in failures.items())
        raise UserError(f"{len(failures)} of {len(removals)} could not be deleted. {said}")
    return 0


def _removals(session: Session, only: str | None) -> _Removals:
    """What there is to remove, in this order: what uses an endpoint goes before the endpoint."""
    if only is None:
        fronts, entries = front.found(session), inventory.find(session)
    else:
        fronts, entries = {}, inventory.of_endpoint(session, only or session.last("endpoint") or "")
    staying: dict[str, str] = {}
    ends = {
        f"{entry.kind.title} {entry.name}": partial(_end, session, entry, staying)
        for entry in entries
        if entry.ends
    }
    return {**fronts, **ends}


def _remove(removals: _Removals) -> dict[str, str]:
    """Remove all that can be; what cannot, with the reason, keeps nothing but its parts."""
    failures = {}
    for what, remove in removals.items():
        try:
            remove()
        except ClientError as error:
            if not refusals.is_missing(error):
                failures[what] = refusals.sentence(error)
        except UserError as error:
            failures[what] = str(error)
    return failures


def _end(session: Session, entry: inventory.Entry, staying: dict[str, str]) -> None:
    """End one thing. `staying` are the parts of endpoints that could not be deleted."""
    if entry.kind in (inventory.ENDPOINT_CONFIG, inventory.MODEL) and entry.name in staying:
        raise UserError(f"it stays as long as the endpoint {staying[entry.name]} does.")
    parts: frozenset[str] = frozenset()
    if entry.kind is inventory.ENDPOINT:
        parts = inventory.parts(session, entry.name)
        staying |= dict.fromkeys(parts, entry.name)
        endpoint.settle(session, entry.name)
        autoscaling.forget(session, entry.name)
    entry.end(session.sagemaker)
    for part in parts:
        del staying[part]
    if entry.kind is inventory.COMPONENT:
        components.wait_until_gone(session, entry.name)


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise UserError(
            f"Nothing was deleted: add --yes to delete these {count} without being asked."
        )
    if input(f"Delete these {count}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was deleted.")
