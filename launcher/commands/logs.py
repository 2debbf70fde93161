"""`launch.py logs`: what a job or an endpoint printed."""

import argparse

from container.errors import UserError
from launcher import endpoint, training
from launcher.logs import TRAINING_JOBS, LogReader, endpoint_group
from launcher.session import Session

HELP = "show what a job or the endpoint printed"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--job", metavar="NAME", help="training job (the last one)")
    parser.add_argument(
        "--endpoint", nargs="?", const="", metavar="NAME", help="an endpoint instead (the last one)"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on until the job is over; with --endpoint until Ctrl-C, or until it is deleted",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Print the log, and with `--follow` what is added to it."""
    client = session.backend.client("logs")
    if options.endpoint is not None:
        name = options.endpoint or session.last("endpoint")
        if not name:
            raise UserError("There is no endpoint yet: run `./launch.py deploy` first.")
        reader = LogReader(client, endpoint_group(name), "")
        lines = _followed(session, name, reader) if options.follow else _printed(session, reader)
    else:
        name = options.job or session.last("training-job")
        if not name:
            raise UserError("There is no job yet: run `./launch.py train --data FOLDER` first.")
        if options.follow:
            training.watch(session, name)
            return 0
        session.sagemaker.describe_training_job(TrainingJobName=name)
        lines = _printed(session, LogReader(client, TRAINING_JOBS, f"{name}/"))
    session.console.result({"name": name, "lines": lines})
    return 0


def _printed(session: Session, reader: LogReader) -> list[str]:
    lines = []
    for line in reader.new_lines():
        session.console.quote(line)
        lines.append(line)
    return lines


def _followed(session: Session, name: str, reader: LogReader) -> list[str]:
    """An endpoint prints for as long as it is there."""
    lines = []
    while True:
        # Looked for before the log is read: what is gone has printed all that it will.
        there = endpoint.status(session, name) is not None
        lines += _printed(session, reader)
        if not there:
            return lines
        session.backend.patience.sleep(session.backend.patience.seconds)
