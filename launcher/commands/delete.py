"""`launch.py delete`: stop and remove what Kennel made, and nothing else."""

import argparse
import sys

from container.errors import UserError
from launcher import inventory
from launcher.session import Session

HELP = "stop and remove what was made, found by its tags"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(session: Session, options: argparse.Namespace) -> int:
    """Endpoints first, then what they were made of; jobs that are over and their results stay."""
    console = session.console
    entries = [entry for entry in inventory.find(session) if entry.ends]
    if not entries:
        console.say(f"There is nothing to delete of the project {session.settings.project}.")
        console.result({"deleted": []})
        return 0
    for entry in entries:
        console.say(f"  {entry.kind.title} {entry.name}")
    if options.dry_run:
        return 0
    if not options.yes:
        _ask(len(entries))
    for entry in entries:
        entry.end(session.sagemaker)
    session.remember(endpoint=None)
    console.say(f"Deleted {len(entries)}. Trained models and data stay.")
    console.result({"deleted": [entry.name for entry in entries]})
    return 0


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise UserError(
            f"Nothing was deleted: add --yes to delete these {count} without being asked."
        )
    if input(f"Delete these {count}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was deleted.")
