"""`launch.py upload`: the data set, brought to S3 once."""

import argparse
from pathlib import Path

from launcher import dataset
from launcher.session import Session

HELP = "bring the images to S3; train and tune do it by themselves"


def add(parser: argparse.ArgumentParser) -> None:
    """There are no options but the settings."""


def run(session: Session, options: argparse.Namespace) -> int:
    """Upload what is not there yet."""
    data = dataset.check(session.settings.data)
    address = dataset.located(session.backend.store, data)
    if not options.dry_run and "://" not in data:
        address = session.backend.store.upload(Path(data), session.console.say)
    session.console.say(f"{data}: {address}")
    session.console.result({"data": data, "address": address})
    if not options.dry_run:
        session.console.next(("./launch.py train", "train on it"))
    return 0
