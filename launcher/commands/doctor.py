"""`launch.py doctor`: whether everything is there, and what to do about what is not."""

import argparse

from launcher import diagnosis, policies
from launcher.session import Session

HELP = "check that everything needed is there, and say what to fix"
_MARKS = {True: "well ", False: "FAULT", None: "?    "}


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "--policies",
        action="store_true",
        help="print the smallest policies for you and for the role, and stop",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """One line for each thing that was looked at; the exit code is 1 where one is not well."""
    console, settings = session.console, session.settings
    if options.policies:
        console.document(
            policies.all_of(
                bucket=settings.bucket or "BUCKET",
                prefix=settings.prefix,
                region=settings.region or "REGION",
                role=settings.role or "arn:aws:iam::ACCOUNT:role/ROLE",
                project=settings.project,
            )
        )
        return 0
    found = []
    console.head(f"Looking at what --on {settings.on} needs")
    for finding in diagnosis.findings(session):
        found.append(finding)
        console.say(f"  {_MARKS[finding.well]}  {finding.what}: {finding.says}")
    well = all(finding.well is not False for finding in found)
    console.result(
        {
            "well": well,
            "findings": [{"what": f.what, "well": f.well, "says": f.says} for f in found],
        }
    )
    if well:
        console.next(("./launch.py train --data FOLDER", "train a model"))
    return 0 if well else 1
