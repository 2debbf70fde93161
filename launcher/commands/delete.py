"""`launch.py delete`: stop and remove what Kennel made, and nothing else."""

import argparse
import sys

from container.errors import UserError
from launcher import autoscaling, components, front, inventory
from launcher.session import Session

HELP = "stop and remove what was made, found by its tags"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(session: Session, options: argparse.Namespace) -> int:
    """Endpoints first, then what they were made of; jobs that are over and their results stay."""
    console = session.console
    entries = [entry for entry in inventory.find(session) if entry.ends]
    fronts = front.found(session)
    if not entries and not fronts:
        console.say(f"There is nothing to delete of the project {session.settings.project}.")
        console.result({"deleted": []})
        return 0
    for entry in entries:
        console.say(f"  {entry.kind.title} {entry.name}")
    for name in fronts:
        console.say(f"  {name}")
    if options.dry_run:
        console.result({"would_delete": [*fronts, *(entry.name for entry in entries)]})
        return 0
    if not options.yes:
        _ask(len(entries) + len(fronts))
    # What uses an endpoint goes before the endpoint.
    for remove in fronts.values():
        remove()
    for entry in entries:
        if entry.kind is inventory.ENDPOINT:
            autoscaling.forget(session, entry.name)
        entry.end(session.sagemaker)
        if entry.kind is inventory.COMPONENT:
            components.wait_until_gone(session, entry.name)
    session.remember(endpoint=None)
    count = len(entries) + len(fronts)
    console.say(f"Deleted {count}. Trained models and data stay.")
    console.result({"deleted": [*fronts, *(entry.name for entry in entries)]})
    return 0


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise UserError(
            f"Nothing was deleted: add --yes to delete these {count} without being asked."
        )
    if input(f"Delete these {count}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was deleted.")
