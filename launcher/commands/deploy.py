"""`launch.py deploy`: a trained model behind an endpoint."""

import argparse
from pathlib import Path

from container.errors import UserError
from launcher import endpoint, names, training, tuning
from launcher.api import Call
from launcher.session import Session

HELP = "serve a trained model"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--job", metavar="NAME", help="training job to serve (the last one)")
    source.add_argument("--best", action="store_true", help="serve the last tuning's winner")
    source.add_argument(
        "--model", metavar="ADDRESS", help="model.tar.gz to serve: a file or an s3:// address"
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="machines behind it (1)")


def run(session: Session, options: argparse.Namespace) -> int:
    """Model, configuration, endpoint; an endpoint that is there is updated without a pause."""
    settings, console = session.settings, session.console
    artifact = _artifact(session, options)
    model = names.unique(settings.project, "model")
    name = settings.project
    variant = endpoint.instance_variant(model, settings.endpoint_instance_type, options.count)
    calls = [
        Call(
            "sagemaker",
            "CreateModel",
            endpoint.model_request(
                settings,
                model,
                role=session.backend.role,
                image=session.backend.image,
                artifact=artifact,
            ),
        ),
        Call(
            "sagemaker", "CreateEndpointConfig", endpoint.config_request(settings, model, variant)
        ),
        endpoint.endpoint_call(session, name, model),
    ]
    if options.dry_run:
        session.show(calls)
        return 0
    verb = "Deploying" if calls[-1].operation == "CreateEndpoint" else "Updating the endpoint with"
    console.head(f"{verb} {artifact} as {name} ({settings.on})")
    session.remember(endpoint=name)
    for call in calls:
        session.send(call)
    endpoint.wait(session, name)
    console.say(f"{name}: in service.")
    if session.backend.paid:
        machines = f"{options.count} of {settings.endpoint_instance_type}"
        console.say(f"It costs money until `./launch.py delete`: {machines}.")
    console.result({"endpoint": name, "model": model, "artifact": artifact})
    console.next(
        ("./launch.py predict IMAGE …", "ask it about images"),
        ("./launch.py delete", "stop it"),
    )
    return 0


def _artifact(session: Session, options: argparse.Namespace) -> str:
    if options.model:
        if "://" in options.model:
            return str(options.model)
        path = Path(options.model).expanduser()
        if not path.is_file():
            raise UserError(f"--model {options.model} is no file; give a model.tar.gz.")
        return session.backend.store.upload(path, session.console.say)
    job = _winner(session) if options.best else options.job or session.last("training-job")
    if not job:
        raise UserError(
            "There is no model yet: run `./launch.py train --data FOLDER`, or give --model FILE."
        )
    return training.artifact(session, job)


def _winner(session: Session) -> str:
    """The training job that won the last tuning. Raises UserError."""
    name = session.last("tuning-job")
    if not name:
        raise UserError("There is no tuning yet: run `./launch.py tune --data FOLDER` first.")
    return tuning.winner(session, name)[0].name
