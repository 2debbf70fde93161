"""`launch.py train`: one training job, watched to its end."""

import argparse
from typing import Any

from container.errors import UserError
from container.hyperparameters import declarations
from launcher import debugger, names, training, tuning
from launcher.commands.given import assigned, hyperparameter_flags, set_flags
from launcher.dataset import Inputs
from launcher.session import Session
from launcher.training import Place

HELP = "train a model on a folder of images"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    set_flags(parser)
    parser.add_argument(
        "--best", action="store_true", help="with the hyperparameters of the last tuning's winner"
    )
    parser.add_argument(
        "--pretrained", metavar="FILE", help="file or folder with pretrained weights"
    )
    parser.add_argument(
        "--spot", action="store_true", help="on spare machines, with checkpoints to go on from"
    )
    parser.add_argument(
        "--keep-alive",
        type=int,
        metavar="SECONDS",
        help="keep the machine for the next job, which costs money meanwhile (at most 21600)",
    )
    parser.add_argument("--instances", type=int, default=1, metavar="N", help="machines (1)")
    parser.add_argument(
        "--aws-debugger",
        action="store_true",
        help="with SageMaker Debugger, for accounts that still have it",
    )
    parser.add_argument(
        "--no-wait", action="store_true", help="return when the job has started, and let it go on"
    )
    hyperparameter_flags(parser)


def run(session: Session, options: argparse.Namespace) -> int:
    """Check everything, upload what is needed, start the job, and watch it."""
    settings, console, store = session.settings, session.console, session.backend.store
    values = training.hyperparameters(
        settings.hyperparameters,
        _winner(session) if options.best else {},
        assigned(options.assignments),
        {
            declared.name: value
            for declared in declarations()
            if (value := getattr(options, f"hyperparameter_{declared.name}", None)) is not None
        },
    )
    inputs = Inputs(settings, store, options.pretrained)
    name = names.unique(settings.project, "train")
    place = Place(session.backend.role, session.backend.image, store.address("training"))
    given = training.request(settings, name, place, inputs.channels, values)
    call = training.call(given | _extras(session, options, name, given))
    if options.dry_run:
        session.show([call])
        return 0
    session.check(call)
    inputs.bring(console.say)
    session.send(call)
    session.remember(training_job=name)
    described = " ".join(f"{key}={value}" for key, value in values.items())
    console.head(f"Training {name} on {inputs.data} ({settings.on})")
    if described:
        console.say(f"  {described}")
    if options.no_wait:
        console.result({"training_job": name})
        console.next(
            ("./launch.py logs --follow", "watch it"), ("./launch.py status", "see how it does")
        )
        return 0
    description = training.watch(session, name)
    console.result(
        {
            "training_job": name,
            "status": description["TrainingJobStatus"],
            "metrics": training.final_metrics(description),
            "artifact": description.get("ModelArtifacts", {}).get("S3ModelArtifacts"),
        }
    )
    console.next(("./launch.py deploy", "serve this model"))
    return 0


def _extras(
    session: Session, options: argparse.Namespace, name: str, given: dict[str, Any]
) -> dict[str, Any]:
    """What the flags add to the request, or change in it. Raises UserError."""
    settings, store = session.settings, session.backend.store
    if options.instances < 1:
        raise UserError(f"--instances takes at least 1, got {options.instances}.")
    changed: dict[str, Any] = {}
    machines = {**given["ResourceConfig"], "InstanceCount": options.instances}
    if options.keep_alive is not None:
        machines["KeepAlivePeriodInSeconds"] = options.keep_alive
    changed["ResourceConfig"] = machines
    if options.spot:
        changed |= training.spot(settings, store.address("checkpoints", name))
    if options.aws_debugger:
        changed |= debugger.members(session.backend.region, store.address("debugger"))
    return changed


def _winner(session: Session) -> dict[str, str]:
    """The best hyperparameters of the last tuning. Raises UserError."""
    name = session.last("tuning-job")
    if not name:
        raise UserError("There is no tuning yet: run `./launch.py tune --data FOLDER` first.")
    best, values = tuning.winner(session, name)
    session.console.say(f"The best of {name} is {best.name}.")
    return values
