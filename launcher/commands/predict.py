"""`launch.py predict`: what an endpoint says about images."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from container.errors import UserError
from launcher import prediction
from launcher.api import Call
from launcher.session import Session

HELP = "ask the endpoint about images"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image file, or folder of images"
    )
    parser.add_argument("--endpoint", metavar="NAME", help="endpoint to ask (the last one)")
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--target",
        metavar="JOB",
        help="whose model, of an endpoint with many (deploy --multi-model)",
    )
    model.add_argument("--component", metavar="NAME", help="which component (deploy --components)")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="labels per image (3)")


def run(session: Session, options: argparse.Namespace) -> int:
    """One request per image, one row per answer."""
    if options.top < 1:
        raise UserError(f"--top must be at least 1, got {options.top}.")
    name = options.endpoint or session.last("endpoint")
    if not name:
        raise UserError(
            "There is no endpoint yet: run `./launch.py deploy` first, or give --endpoint NAME."
        )
    paths = prediction.images(options.images)
    chosen = prediction.of_several(options.target, options.component)
    if options.dry_run:
        given = {
            **prediction.request(name, paths[0], options.top),
            **chosen,
            "Body": f"the bytes of {paths[0]}",
        }
        session.show([Call("sagemaker-runtime", "InvokeEndpoint", given)])
        return 0
    found = _answers(session, name, paths, options.top, chosen)
    answers = {str(path): answer for path, answer in found}
    rows = [
        [
            path,
            answer[0]["label"],
            f"{answer[0]['probability']:.1%}",
            ", ".join(f"{entry['label']} {entry['probability']:.1%}" for entry in answer[1:]),
        ]
        for path, answer in answers.items()
    ]
    session.console.table(["image", "label", "sure", "or"], rows)
    session.console.result({"endpoint": name, "predictions": answers})
    session.console.next(
        ("./launch.py transform FOLDER", "label a whole folder"),
        ("./launch.py delete", "stop the endpoint"),
    )
    return 0


def _answers(
    session: Session, name: str, paths: list[Path], top: int, chosen: dict[str, str]
) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    backend = session.backend
    runtime = backend.client("sagemaker-runtime")
    found = session.sagemaker.describe_endpoint(EndpointName=name)
    for path in paths:
        if "AsyncInferenceConfig" in found:
            address = backend.store.upload(path, lambda _: None)
            later = prediction.asynchronous_request(name, path, top, address)
            yield path, prediction.ask_later(runtime, later, backend.store, backend.patience)
        else:
            given = prediction.request(name, path, top)
            yield path, prediction.ask(runtime, given | chosen)
