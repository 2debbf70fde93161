"""`launch.py report`: the last training's own report."""

import argparse
import io
import tarfile
from pathlib import Path

from container.errors import UserError
from launcher import training
from launcher.commands.source import job
from launcher.session import Session

HELP = "fetch the report that training wrote"
NAME = "report.html"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--job", metavar="NAME", help="training job (the last one)")
    source.add_argument("--best", action="store_true", help="that of the last tuning's winner")
    parser.add_argument(
        "--output", default=NAME, metavar="FILE", help=f"where to write it ({NAME})"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Take the report out of the job's output."""
    name = job(session, options)
    description = session.sagemaker.describe_training_job(TrainingJobName=name)
    if description["TrainingJobStatus"] not in training.OVER:
        raise UserError(f"{name} is still under way; wait with `./launch.py logs --follow`.")
    if options.dry_run:
        session.console.say(f"The report of {name} would be written to {options.output}.")
        session.console.result({"training_job": name, "would_write": options.output})
        return 0
    place = description["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    content = session.backend.store.fetch(f"{place}/{name}/output/output.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        try:
            file = archive.extractfile(NAME)
        except KeyError:
            file = None
        if file is None:
            raise UserError(f"{name} wrote no report: its output holds no {NAME}.")
        try:
            Path(session.directory, options.output).write_bytes(file.read())
        except OSError as error:
            raise UserError(
                f"--output {options.output} cannot be written: {error.strerror}."
            ) from None
    session.console.say(f"The report of {name}: {options.output}")
    session.console.result({"training_job": name, "report": options.output})
    session.console.next(("./launch.py deploy", "serve this model"))
    return 0
