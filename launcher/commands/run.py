"""`launch.py run`: everything in order, from a folder of images to predictions."""

import argparse
import contextlib
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher import dataset, prediction, settings
from launcher.commands.given import chosen_settings, range_flag, set_flags
from launcher.session import Session

HELP = (
    "all of it in order: doctor, upload, tune, train, report, deploy, predict, transform, explain"
)
TRIALS = 4
PREDICTED = 5
EXPLAINED = 100
CHECKS = (["push"], ["doctor"], ["upload"])
"""The steps that come before the first request for a job."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    set_flags(parser)
    parser.add_argument(
        "--jobs",
        type=int,
        default=TRIALS,
        metavar="N",
        help=f"trials of the tuning before training; 0 trains without one ({TRIALS})",
    )
    range_flag(parser)
    parser.add_argument("--push", action="store_true", help="build the image first")
    parser.add_argument(
        "--delete",
        action="store_true",
        help="stop the endpoint at the end, also where a step fails",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Each command as if it had been typed; the first that fails ends it."""
    console = session.console
    data = dataset.check(session.settings.data)
    session.keep_choices()
    done: list[dict[str, Any]] = []
    shown = code = 0
    paid = False
    for step in _steps(session, options, data):
        line = shlex.join(["./launch.py", *step])
        if options.dry_run and (shown or step in CHECKS):
            console.say(f"then: {line}" if shown else f"first: {line}")
            continue
        shown += 1
        console.head(line if options.dry_run else f"── {shown}. {line}")
        code = _do(options, step, done)
        paid = paid or step == ["deploy"]
        if code:
            if paid and options.delete and not options.dry_run:
                _do(options, _deletion(session), done)
            break
    if not options.dry_run:
        console.result({"steps": done})
    if paid and not (options.dry_run or options.delete):
        console.next(
            ("./launch.py status", "what there is, and what of it costs money"),
            ("./launch.py delete", "stop the endpoint; models, data and pages stay"),
        )
    return code


def _do(options: argparse.Namespace, step: list[str], done: list[dict[str, Any]]) -> int:
    """Run one command as if it had been typed; its exit code."""
    # Imported late: the command line knows this command.
    from launcher.cli import main

    given = _settings(options)
    if options.dry_run:
        return main([*step, *given, "--dry-run"], guide=False)
    if not options.json:
        return main([*step, *given], guide=False)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = main([*step, *given, "--json"], guide=False)
    result = json.loads(printed.getvalue() or "null")
    done.append({"command": shlex.join(["./launch.py", *step]), "result": result})
    return code


def _deletion(session: Session) -> list[str]:
    """The command that removes what this one has deployed, and nothing else."""
    return ["delete", "--endpoint", session.settings.project, "--yes"]


def _settings(options: argparse.Namespace) -> list[str]:
    """The settings that were given as flags, for every step."""
    chosen = chosen_settings(options)
    flags = {declared.name: declared.flag for declared in settings.declarations()}
    return [text for name, value in chosen.items() for text in (f"--{flags[name]}", str(value))]


def _steps(session: Session, options: argparse.Namespace, data: str) -> Iterator[list[str]]:
    """The commands, with their options."""
    fixed = ["--set", *options.assignments] if options.assignments else []
    if options.push:
        yield ["push"]
    yield from (["doctor"], ["upload"])
    if options.jobs:
        searched = ["--range", *options.ranges] if options.ranges else []
        yield ["tune", "--jobs", str(options.jobs), *searched, *fixed]
        yield ["train", "--best"]
    else:
        yield ["train", *fixed]
    yield from (["report"], ["deploy"])
    if images := _images(session, data):
        if "://" not in images:
            found = prediction.spread(prediction.images([images]), PREDICTED)
            yield ["predict", *map(str, found)]
        yield ["transform", images]
        if "://" not in images:
            yield ["explain", images, "--limit", str(EXPLAINED)]
    if options.delete:
        yield _deletion(session)


def _images(session: Session, data: str) -> str | None:
    """Images to ask the model about: held out from training, where the data set has such."""
    held_out = dataset.held_out(session.backend.store, data)
    if held_out:
        return held_out
    if "://" in data or not Path(data).is_dir():
        session.console.say(f"{data} has no folder of test images: nothing is predicted.")
        return None
    session.console.say(
        f"{data} has no folder of test images, and the model was trained on most of those that it "
        "is asked about."
    )
    return data
