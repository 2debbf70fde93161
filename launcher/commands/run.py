"""`launch.py run`: everything in order, from a folder of images to predictions."""

import argparse
from pathlib import Path

from container.errors import UserError
from launcher import dataset, prediction
from launcher.commands.given import set_flags
from launcher.session import Session

HELP = "all of it in order: tune, train, report, deploy, predict, transform"
SHOWN = 5


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    set_flags(parser)
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="trials of a tuning before training (0)"
    )
    parser.add_argument(
        "--range", dest="ranges", nargs="+", default=[], metavar="NAME=RANGE", help="see tune"
    )
    parser.add_argument("--delete", action="store_true", help="stop the endpoint at the end")


def run(session: Session, options: argparse.Namespace) -> int:
    """Each command as if it had been typed; the first that fails ends it."""
    # Imported late: the command line knows this command.
    from launcher.cli import main

    data = dataset.check(session.settings.data)
    session.keep_choices()
    for number, step in enumerate(_steps(options, data), 1):
        if options.dry_run and number > 1:
            session.console.say(f"then: ./launch.py {' '.join(step)}")
            continue
        session.console.head(f"── {number}. ./launch.py {' '.join(step)}")
        dry = ["--dry-run"] if options.dry_run else []
        if code := main([*step, *dry, "--on", session.settings.on, "--data", data]):
            return code
    return 0


def _steps(options: argparse.Namespace, data: str) -> list[list[str]]:
    """The commands, with their options."""
    fixed = ["--set", *options.assignments] if options.assignments else []
    steps: list[list[str]] = []
    if options.jobs:
        searched = ["--range", *options.ranges] if options.ranges else []
        steps += [["tune", "--jobs", str(options.jobs), *searched, *fixed], ["train", "--best"]]
    else:
        steps.append(["train", *fixed])
    steps += [["report"], ["deploy"]]
    if test := _test_folder(data):
        some = [str(path) for path in _spread(prediction.images([test]))]
        steps += [["predict", *some], ["transform", test]]
    if options.delete:
        steps.append(["delete", "--yes"])
    return steps


def _test_folder(data: str) -> str | None:
    """The images that the model has not seen, where the data set has such."""
    if "://" in data:
        return None
    folder = Path(data, "test")
    return str(folder) if folder.is_dir() else None


def _spread(paths: list[Path]) -> list[Path]:
    """A few images from all over the list, which is in order of classes."""
    if not paths:
        raise UserError("There are no images to predict.")
    step = max(1, len(paths) // SHOWN)
    return paths[::step][:SHOWN]
