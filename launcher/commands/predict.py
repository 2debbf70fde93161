"""`launch.py predict`: what an endpoint says about images."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from container.errors import UserError
from launcher import endpoint, prediction
from launcher.api import Call
from launcher.commands import asked
from launcher.prediction import Refused
from launcher.session import Session

HELP = "ask the endpoint about images"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image file, or folder of images"
    )
    asked.endpoint_flag(parser)
    asked.model_flags(parser)
    parser.add_argument("--top", type=int, default=3, metavar="K", help="labels per image (3)")


def run(session: Session, options: argparse.Namespace) -> int:
    """One request per image, one row per answer."""
    if options.top < 1:
        raise UserError(f"--top must be at least 1, got {options.top}.")
    name = asked.endpoint_name(session, options)
    paths = prediction.images(options.images)
    chosen = asked.model(options)
    if options.dry_run:
        session.show([_first_call(session, name, paths[0], options.top, chosen)])
        return 0
    answers: dict[str, list[dict[str, Any]]] = {}
    refused: dict[str, str] = {}
    for path, answer in _answers(session, name, paths, options.top, chosen):
        if isinstance(answer, Refused):
            refused[str(path)] = str(answer)
        else:
            answers[str(path)] = answer
    if not answers:
        raise UserError(_none_answered(refused))
    rows = [_row(str(path), answers, refused) for path in paths]
    session.console.table(["image", "label", "sure", "or"], rows)
    session.console.result({"endpoint": name, "predictions": answers, "refused": refused})
    session.console.next(
        ("./launch.py transform FOLDER", "label a whole folder"),
        ("./launch.py delete", "stop the endpoint"),
    )
    return 0


def _row(
    path: str, answers: Mapping[str, list[dict[str, Any]]], refused: Mapping[str, str]
) -> list[str]:
    if path in refused:
        return [path, "", "", refused[path]]
    best, *others = answers[path]
    said = ", ".join(f"{entry['label']} {entry['probability']:.1%}" for entry in others)
    return [path, best["label"], f"{best['probability']:.1%}", said]


def _none_answered(refused: Mapping[str, str]) -> str:
    path, said = next(iter(refused.items()))
    return (
        said if len(refused) == 1 else f"None of {len(refused)} images is answered. {path}: {said}"
    )


def _answers(
    session: Session, name: str, paths: list[Path], top: int, chosen: dict[str, str]
) -> Iterator[tuple[Path, list[dict[str, Any]] | Refused]]:
    """Every image with its answer, or with why it has none."""
    backend = session.backend
    runtime = backend.client("sagemaker-runtime")
    later = _is_asynchronous(session.sagemaker.describe_endpoint(EndpointName=name))
    for path in paths:
        try:
            if later:
                address = backend.store.upload(path, lambda _: None)
                given = prediction.asynchronous_request(name, path, top, address)
                yield path, prediction.ask_later(runtime, given, backend.store, backend.patience)
            else:
                given = prediction.request(name, path, top)
                yield path, prediction.ask(runtime, given | chosen)
        except Refused as refusal:
            yield path, refusal


def _first_call(session: Session, name: str, path: Path, top: int, chosen: dict[str, str]) -> Call:
    """What is sent for the first image; an endpoint that is not there yet is not asynchronous."""
    if _is_asynchronous(endpoint.status(session, name) or {}):
        address = session.backend.store.locate(path)
        later = prediction.asynchronous_request(name, path, top, address)
        return Call("sagemaker-runtime", "InvokeEndpointAsync", later)
    given = prediction.request(name, path, top) | chosen
    shown = given | {"Body": f"the bytes of {path}"}
    return Call("sagemaker-runtime", "InvokeEndpoint", shown)


def _is_asynchronous(described: Mapping[str, Any]) -> bool:
    return "AsyncInferenceConfig" in described
