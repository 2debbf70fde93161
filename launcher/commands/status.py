"""`launch.py status`: what there is, and what of it costs money."""

import argparse
from collections.abc import Iterable

from launcher import front, inventory
from launcher.inventory import COMPONENT, Entry
from launcher.session import Session

HELP = "show jobs and endpoints, and what is costing money"
SHOWN = 10


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "--all", action="store_true", help=f"more than the {SHOWN} newest of a kind"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """One table of all that carries the project's tags."""
    console = session.console
    entries = list(inventory.find(session))
    shown = entries if options.all else _newest(entries)
    if entries:
        console.table(
            ["what", "name", "state", "made"],
            [
                [entry.kind.title, entry.name, entry.status, f"{entry.created:%Y-%m-%d %H:%M}"]
                for entry in shown
            ],
        )
    else:
        console.say(
            f"There is nothing of the project {session.settings.project} ({session.settings.on})."
        )
    ends = [entry for entry in entries if entry.status and entry.ends]
    busy = [entry for entry in ends if entry.kind is not COMPONENT]  # its endpoint costs money
    cost = "costs money" if session.backend.paid else "runs"
    for entry in busy:
        console.say(f"The {entry.kind.title} {entry.name} {cost} ({entry.status}).")
    fronts = list(front.found(session))
    for name in fronts:
        console.say(f"There is the {name}.")
    console.result(
        {
            "front": fronts,
            "on": session.settings.on,
            "entries": [
                {"what": entry.kind.title, "name": entry.name, "status": entry.status}
                for entry in entries
            ],
        }
    )
    if busy or fronts:
        console.next(("./launch.py delete", "stop and remove all of it"))
    elif not entries:
        console.next(("./launch.py train --data FOLDER", "train a model"))
    return 0


def _newest(entries: Iterable[Entry]) -> list[Entry]:
    counts: dict[str, int] = {}
    kept = []
    for entry in entries:
        counts[entry.kind.title] = counts.get(entry.kind.title, 0) + 1
        if counts[entry.kind.title] <= SHOWN:
            kept.append(entry)
    return kept
