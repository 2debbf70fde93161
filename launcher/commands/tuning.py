"""`launch.py tuning`: a tuning's leaderboard, at its end or while it runs."""

import argparse
from pathlib import Path

from container.errors import UserError
from launcher import tuning
from launcher.commands import tune
from launcher.session import Session

HELP = "show a tuning's trials and winner"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--job", metavar="NAME", help="tuning job (the last one)")
    parser.add_argument("--follow", action="store_true", help="go on until it is over")
    parser.add_argument("--page", default="tuning.html", metavar="FILE", help=tune.PAGE_HELP)


def run(session: Session, options: argparse.Namespace) -> int:
    """The trials that there are."""
    name = options.job or session.last("tuning-job")
    if not name:
        raise UserError("There is no tuning yet: run `./launch.py tune --data FOLDER` first.")
    if options.dry_run:
        session.console.say(f"The trials of {name} would be drawn on {options.page}.")
        session.console.result({"tuning_job": name, "would_write": options.page})
        return 0
    if options.follow:
        found = tuning.watch(session, name)
    else:
        found = tuning.result(session.sagemaker, name)
    if not found.ranked:
        raise UserError(
            f"{name} has measured no trial yet; wait with `./launch.py tuning --follow`."
        )
    tune.show(session, found, Path(session.directory, options.page))
    return 0
