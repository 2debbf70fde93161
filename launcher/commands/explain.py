"""`launch.py explain`: what an endpoint looks at in a folder of images, as one page."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from container.errors import UserError
from launcher import clarify, dataset, explanation, explanation_page, names, prediction
from launcher.api import Call
from launcher.commands import asked
from launcher.explanation import Explained, Question
from launcher.session import Session

HELP = "show what the endpoint looks at in a folder of images, as a page"
PROGRESS = 25
"""Images between two lines of progress."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("images", metavar="FOLDER", help="of images, or one image")
    asked.endpoint_flag(parser)
    asked.model_flags(parser)
    parser.add_argument(
        "--method",
        choices=explanation.METHODS,
        default="cam",
        help="class activation maps; or the slower occlusion or integrated-gradients (cam)",
    )
    parser.add_argument(
        "--class", dest="label", metavar="NAME", help="class to explain (each image's answer)"
    )
    parser.add_argument("--limit", type=int, default=500, metavar="N", help="images at most (500)")
    parser.add_argument(
        "--output",
        default="explain.html",
        metavar="FILE",
        help="where to write the page, for a browser (explain.html)",
    )
    parser.add_argument(
        "--clarify",
        action="store_true",
        help="by SageMaker Clarify instead, for accounts that still have it (SageMaker)",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """One request per image, and a page of the answers."""
    if options.limit < 1:
        raise UserError(f"--limit must be at least 1, got {options.limit}.")
    name = asked.endpoint_name(session, options)
    if options.clarify:
        return _clarify(session, name, options)
    paths = prediction.images([options.images])
    question = Question(name, options.method, options.label, asked.model(options))
    if options.dry_run:
        given = explanation.request(question, paths[0])
        given["Body"] = f"the bytes of {paths[0]}"
        session.show([Call("sagemaker-runtime", "InvokeEndpoint", given)])
        return 0
    if "AsyncInferenceConfig" in session.sagemaker.describe_endpoint(EndpointName=name):
        raise UserError(f"{name} is asynchronous and answers much later; explain needs another.")
    console = session.console
    chosen = prediction.spread(paths, options.limit)
    console.head(f"Explaining {len(chosen)} of {len(paths)} images by {name} ({options.method})")
    found: list[Explained] = []
    runtime = session.backend.client("sagemaker-runtime")
    for each in explanation.explain_all(runtime, question, chosen):
        found.append(each)
        if len(found) % PROGRESS == 0:
            console.say(f"  {len(found)} of {len(chosen)}")
    if not any(each.predictions for each in found):
        raise UserError(f"{name} refused every image; of the first it says: {found[0].refusal}")
    text = explanation_page.page(found, endpoint=name, method=options.method)
    try:
        Path(session.directory, options.output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {options.output} cannot be written: {error.strerror}.") from None
    _report(session, name, found, options)
    return 0


def _report(
    session: Session, name: str, found: list[Explained], options: argparse.Namespace
) -> None:
    console, right = session.console, explanation.accuracy(found)
    wrong = [each for each in explanation.in_order(found) if each.is_wrong]
    refused = [each for each in found if each.refusal]
    for each in wrong[:5]:
        label, share = each.predictions[0]
        console.say(f"  wrong: {each.path}: {label} {share:.1%}, not {each.truth}")
    for each in refused[:5]:
        console.say(f"  refused: {each.path}: {each.refusal}")
    if right is not None:
        console.say(f"{right:.1%} are right. Open {options.output}: wrong ones come first.")
    else:
        console.say(f"Open {options.output}: the least sure come first.")
    console.result(
        {
            "endpoint": name,
            "method": options.method,
            "output": options.output,
            "images": len(found),
            "accuracy": right,
            "wrong": [str(each.path) for each in wrong],
            "refused": {str(each.path): each.refusal for each in refused},
        }
    )
    console.next(
        ("./launch.py transform FOLDER", "label a whole folder"),
        ("./launch.py delete", "stop the endpoint"),
    )


def _clarify(session: Session, name: str, options: argparse.Namespace) -> int:
    """A processing job of SageMaker Clarify's."""
    settings, store, console = session.settings, session.backend.store, session.console
    if settings.on != "sagemaker":
        raise UserError("--clarify runs on SageMaker: add --on sagemaker, or leave it out.")
    images = dataset.check(options.images)
    job = names.unique(settings.project, "clarify")
    with tempfile.TemporaryDirectory() as place:
        config = Path(place, "clarify")
        config.mkdir()
        content: dict[str, Any] = clarify.analysis(name)
        (config / clarify.CONFIG_FILE).write_text(json.dumps(content, indent=2))
        output = store.address("clarify", job)
        given = clarify.request(
            settings,
            job,
            role=session.backend.role,
            region=session.backend.region,
            images=dataset.selected(store, images),
            config=store.locate(config),
            output=output,
        )
        call = Call("sagemaker", "CreateProcessingJob", given)
        if options.dry_run:
            session.show([call])
            return 0
        dataset.bring(store, images, console.say)
        store.upload(config, console.say)
    console.head(f"SageMaker Clarify explains {images} by {name}")
    session.send(call)
    clarify.watch(session, job)
    console.say(f"Its heat maps and its report: {output}")
    console.result({"processing_job": job, "output": output})
    console.next(("./launch.py explain FOLDER", "the same by Kennel, in seconds"))
    return 0
