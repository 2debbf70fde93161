"""Which model `deploy` and `transform` take: a job's, a tuning's winner's, or a file."""

import argparse
from pathlib import Path

from container.errors import UserError
from launcher import endpoint, training, tuning
from launcher.api import Call
from launcher.commands.given import environment
from launcher.session import Session

ARCHIVE = ".tar.gz"


def source_flags(parser: argparse.ArgumentParser) -> None:
    """`--job`, `--best`, `--model`."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--job", metavar="NAME", help="training job whose model it is (the last)")
    source.add_argument("--best", action="store_true", help="the last tuning's winner")
    source.add_argument(
        "--model", metavar="ADDRESS", help="a model.tar.gz: a file or an s3:// address"
    )


def artifact(session: Session, options: argparse.Namespace) -> str:
    """The address of the model. Raises UserError where there is none yet."""
    if options.model:
        return _given(session, str(options.model), options)
    return training.artifact(session, job(session, options))


def named_artifact(session: Session, given: str, options: argparse.Namespace) -> tuple[str, str]:
    """A model's own name and its address: a training job's, or NAME.tar.gz. Raises UserError."""
    if given.endswith(ARCHIVE):
        return given.rpartition("/")[2].removesuffix(ARCHIVE), _given(session, given, options)
    return given, training.artifact(session, given)


def model_call(session: Session, options: argparse.Namespace, name: str, address: str) -> Call:
    """`CreateModel` for the model at an address, with what `--env` gives its server."""
    request = endpoint.model_request(
        session.settings,
        name,
        role=session.backend.role,
        image=session.backend.image,
        artifact=address,
        environment=environment(options.env),
    )
    return Call("sagemaker", "CreateModel", request)


def job(session: Session, options: argparse.Namespace) -> str:
    """The training job that is meant. Raises UserError where there is none yet."""
    if options.best:
        return winner(session)
    name = options.job or session.last("training-job")
    if name:
        return str(name)
    if session.last("tuning-job"):
        return winner(session)
    raise UserError("There is no model yet: run `./launch.py train --data FOLDER` first.")


def winner(session: Session) -> str:
    """The training job that won the last tuning. Raises UserError."""
    name = session.last("tuning-job")
    if not name:
        raise UserError("There is no tuning yet: run `./launch.py tune --data FOLDER` first.")
    return tuning.winner(session, name)[0].name


def _given(session: Session, address: str, options: argparse.Namespace) -> str:
    """The address of a file, which is brought there unless nothing is to be sent."""
    if "://" in address:
        return address
    path = Path(address).expanduser()
    if not path.is_file():
        raise UserError(f"{address} is no file; give a model.tar.gz.")
    if options.dry_run:
        return session.backend.store.locate(path)
    return session.backend.store.upload(path, session.console.say)
