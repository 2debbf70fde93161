"""`launch.py deploy`: trained models behind an endpoint."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from container.errors import UserError
from launcher import autoscaling, components, endpoint, names
from launcher.api import Call
from launcher.commands.given import env_flag, environment
from launcher.commands.source import artifact, model_call, named_artifact, source_flags
from launcher.console import place
from launcher.session import Session

HELP = "serve a trained model"
SERVERLESS_MEGABYTES = 4096


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    source_flags(parser)
    env_flag(parser)
    parser.add_argument("--count", type=int, default=1, metavar="N", help="machines behind it (1)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--serverless",
        nargs="?",
        type=int,
        const=SERVERLESS_MEGABYTES,
        metavar="MEGABYTES",
        help=f"no machine: pay for each answer; memory in steps of 1024 ({SERVERLESS_MEGABYTES})",
    )
    kind.add_argument(
        "--async",
        dest="asynchronous",
        action="store_true",
        help="images come from S3 and answers go there, for long queues and large images",
    )
    kind.add_argument(
        "--multi-model",
        nargs="+",
        metavar="JOB",
        help="several models on the same machines, each loaded when it is asked for: those of "
        "training jobs, or NAME.tar.gz files",
    )
    kind.add_argument(
        "--components",
        nargs="?",
        type=int,
        const=1,
        metavar="COPIES",
        help="as an inference component: each further deploy adds a model to the same machines",
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


@dataclass(frozen=True)
class Plan:
    """What is to be sent, and what is to be said of it."""

    calls: Sequence[Call]
    shown: str
    """What is deployed."""
    predict: str = "./launch.py predict IMAGE …"
    copies: Sequence[tuple[str, str]] = ()
    """Archives to copy before, from where to where."""
    shares: bool = False
    """Whether it comes to machines that are there already."""
    result: dict[str, Any] = field(default_factory=dict)


def run(session: Session, options: argparse.Namespace) -> int:
    """Model, configuration, endpoint; an endpoint that is there is updated without a pause."""
    settings, console = session.settings, session.console
    name, model = settings.project, names.unique(settings.project, "model")
    if options.multi_model:
        plan = _many_models(session, options, name, model)
    elif options.components is not None:
        plan = _component(session, options, name, model)
    else:
        plan = _one_model(session, options, name, model)
    for call in plan.calls:
        session.check(call)
    if options.dry_run:
        session.show(plan.calls)
        return 0
    updates = any(call.operation == "UpdateEndpoint" for call in plan.calls)
    verb = "Updating the endpoint with" if updates else "Deploying"
    console.head(f"{verb} {plan.shown} as {name} ({settings.on})")
    for source, target in plan.copies:
        session.backend.store.copy(source, target)
    session.remember(endpoint=name)
    for call in plan.calls:
        if call.operation in ("CreateEndpoint", "UpdateEndpoint"):
            endpoint.bring_up(session, call)
            continue
        session.send(call)
        if call.operation == "CreateInferenceComponent":
            components.wait(session, model)
    console.say(f"{name}: in service.")
    if session.backend.paid:
        console.say(_cost(session, options, plan))
    console.result({"endpoint": name, "model": model, **plan.result})
    console.next((plan.predict, "ask it about images"), ("./launch.py delete", "stop it"))
    return 0


def _one_model(session: Session, options: argparse.Namespace, name: str, model: str) -> Plan:
    """An endpoint for one model."""
    settings = session.settings
    model_data = artifact(session, options)
    answers = session.backend.store.address("async", model) if options.asynchronous else None
    if options.serverless:
        variant = endpoint.serverless_variant(model, options.serverless, options.concurrency)
    else:
        machine = settings.endpoint_instance_type
        variant = endpoint.instance_variant(model, machine, options.count)
    config = endpoint.config_request(settings, model, variant, answers)
    calls = [
        model_call(session, options, model, model_data),
        Call("sagemaker", "CreateEndpointConfig", config),
        _endpoint_call(session, options, name, model),
    ]
    return Plan(calls, place(model_data), result={"artifact": model_data})


def _many_models(session: Session, options: argparse.Namespace, name: str, model: str) -> Plan:
    """An endpoint for the models of several jobs. Raises UserError."""
    settings, store = session.settings, session.backend.store
    machine = settings.endpoint_instance_type
    if endpoint.is_gpu(machine):
        raise UserError(
            f"--multi-model serves on processors only, and {machine} has a GPU: take "
            "--endpoint-instance-type ml.m5.large, or --components instead."
        )
    folder = store.address("models", model)
    found = [named_artifact(session, given, options) for given in options.multi_model]
    targets = [target for target, _ in found]
    if len(set(targets)) < len(targets):
        raise UserError(f"--multi-model names a model twice: {', '.join(targets)}.")
    copies = [(address, f"{folder}/{target}.tar.gz") for target, address in found]
    given = endpoint.many_models_request(
        settings,
        model,
        role=session.backend.role,
        image=session.backend.image,
        folder=folder,
        environment=environment(options.env),
    )
    variant = endpoint.instance_variant(model, machine, options.count)
    config = endpoint.config_request(settings, model, variant)
    calls = [
        Call("sagemaker", "CreateModel", given),
        Call("sagemaker", "CreateEndpointConfig", config),
        _endpoint_call(session, options, name, model),
    ]
    return Plan(
        calls,
        f"{len(copies)} models",
        predict=f"./launch.py predict --target {targets[0]} IMAGE …",
        copies=copies,
        result={"targets": targets},
    )


def _component(session: Session, options: argparse.Namespace, name: str, model: str) -> Plan:
    """One more model on an endpoint of components, which is made if need be. Raises UserError."""
    settings = session.settings
    if not session.backend.paid:
        raise UserError(
            "--components shares out SageMaker's machines; on this machine take --multi-model."
        )
    model_data = artifact(session, options)
    calls = [model_call(session, options, model, model_data)]
    found, machine = endpoint.status(session, name), settings.endpoint_instance_type
    if found is None or found["EndpointStatus"] == "Deleting":
        shares = False
        config = components.config_request(settings, model, session.backend.role, options.count)
        calls += [
            Call("sagemaker", "CreateEndpointConfig", config),
            endpoint.endpoint_call(session, name, model),
        ]
    else:
        shares = True
        endpoint.check_owner(session, name, found)
        machine = components.machine(session, name, found)
    calls.append(components.call(settings, model, name, model, options.components, machine))
    return Plan(
        calls,
        place(model_data),
        predict=f"./launch.py predict --component {model} IMAGE …",
        result={"artifact": model_data, "component": model},
        shares=shares,
    )


def _endpoint_call(session: Session, options: argparse.Namespace, name: str, model: str) -> Call:
    scaled = autoscaling.is_scaled(session, name)
    return endpoint.endpoint_call(
        session, name, model, alarms=options.rollback_alarms, scaled=scaled
    )


def _cost(session: Session, options: argparse.Namespace, plan: Plan) -> str:
    if options.serverless:
        return "It costs money while it answers, and nothing in between."
    if plan.shares:
        return "It shares the endpoint's machines, which cost money until `./launch.py delete`."
    machines = f"{options.count} of {session.settings.endpoint_instance_type}"
    return f"It costs money until `./launch.py delete`: {machines}."
