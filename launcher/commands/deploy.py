"""`launch.py deploy`: a trained model behind an endpoint."""

import argparse
from typing import Any

from container.errors import UserError
from launcher import endpoint, names
from launcher.api import Call
from launcher.commands.source import artifact, source_flags
from launcher.console import place
from launcher.session import Session

HELP = "serve a trained model"
SERVERLESS_MEGABYTES = 4096


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    source_flags(parser)
    parser.add_argument("--count", type=int, default=1, metavar="N", help="machines behind it (1)")
    parser.add_argument(
        "--serverless",
        nargs="?",
        type=int,
        const=SERVERLESS_MEGABYTES,
        metavar="MEGABYTES",
        help=f"no machine: pay for each answer; memory in steps of 1024 ({SERVERLESS_MEGABYTES})",
    )
    parser.add_argument(
        "--async",
        dest="asynchronous",
        action="store_true",
        help="images come from S3 and answers go there, for long queues and large images",
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=5,
        metavar="N",
        help="answers at the same time of a serverless endpoint (5)",
    )
    parser.add_argument(
        "--rollback-alarm",
        dest="rollback_alarms",
        action="append",
        default=[],
        metavar="NAME",
        help="CloudWatch alarm on which an update goes back to the model from before",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Model, configuration, endpoint; an endpoint that is there is updated without a pause."""
    settings, console = session.settings, session.console
    model_data = artifact(session, options)
    model = names.unique(settings.project, "model")
    name = settings.project
    given = endpoint.model_request(
        settings,
        model,
        role=session.backend.role,
        image=session.backend.image,
        artifact=model_data,
    )
    if options.asynchronous and options.serverless:
        raise UserError("--async and --serverless exclude each other; leave one out.")
    answers = session.backend.store.address("async", model) if options.asynchronous else None
    variant = _variant(session, options, model)
    config = endpoint.config_request(settings, model, variant, answers)
    calls = [
        Call("sagemaker", "CreateModel", given),
        Call("sagemaker", "CreateEndpointConfig", config),
        endpoint.endpoint_call(session, name, model, options.rollback_alarms),
    ]
    for call in calls:
        session.check(call)
    if options.dry_run:
        session.show(calls)
        return 0
    verb = "Deploying" if calls[-1].operation == "CreateEndpoint" else "Updating the endpoint with"
    console.head(f"{verb} {place(model_data)} as {name} ({settings.on})")
    session.remember(endpoint=name)
    for call in calls:
        session.send(call)
    endpoint.wait(session, name)
    console.say(f"{name}: in service.")
    if session.backend.paid:
        console.say(_cost(session, options))
    console.result({"endpoint": name, "model": model, "artifact": model_data})
    console.next(
        ("./launch.py predict IMAGE …", "ask it about images"),
        ("./launch.py delete", "stop it"),
    )
    return 0


def _variant(session: Session, options: argparse.Namespace, model: str) -> dict[str, Any]:
    if options.serverless:
        return endpoint.serverless_variant(model, options.serverless, options.concurrency)
    machine = session.settings.endpoint_instance_type
    return endpoint.instance_variant(model, machine, options.count)


def _cost(session: Session, options: argparse.Namespace) -> str:
    if options.serverless:
        return "It costs money while it answers, and nothing in between."
    machines = f"{options.count} of {session.settings.endpoint_instance_type}"
    return f"It costs money until `./launch.py delete`: {machines}."
