"""`launch.py deploy`: a trained model behind an endpoint."""

import argparse

from launcher import endpoint, names
from launcher.api import Call
from launcher.commands.source import artifact, source_flags
from launcher.session import Session

HELP = "serve a trained model"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    source_flags(parser)
    parser.add_argument("--count", type=int, default=1, metavar="N", help="machines behind it (1)")


def run(session: Session, options: argparse.Namespace) -> int:
    """Model, configuration, endpoint; an endpoint that is there is updated without a pause."""
    settings, console = session.settings, session.console
    model_data = artifact(session, options)
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
                artifact=model_data,
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
    console.head(f"{verb} {model_data} as {name} ({settings.on})")
    session.remember(endpoint=name)
    for call in calls:
        session.send(call)
    endpoint.wait(session, name)
    console.say(f"{name}: in service.")
    if session.backend.paid:
        machines = f"{options.count} of {settings.endpoint_instance_type}"
        console.say(f"It costs money until `./launch.py delete`: {machines}.")
    console.result({"endpoint": name, "model": model, "artifact": model_data})
    console.next(
        ("./launch.py predict IMAGE …", "ask it about images"),
        ("./launch.py delete", "stop it"),
    )
    return 0
