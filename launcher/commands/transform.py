"""`launch.py transform`: a folder of images through the model at once, as CSV."""

import argparse
from pathlib import Path

from container.errors import UserError
from launcher import dataset, names, transform
from launcher.api import Call
from launcher.commands.given import env_flag
from launcher.commands.source import artifact, model_call, source_flags
from launcher.console import place
from launcher.prediction import IMAGE_SUFFIXES
from launcher.session import Session

HELP = "label a whole folder of images, as CSV"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("images", metavar="FOLDER", help="of images, or its s3:// address")
    parser.add_argument(
        "--output",
        default="transform.csv",
        metavar="FILE",
        help="where to write one line per image (transform.csv)",
    )
    source_flags(parser)
    env_flag(parser)


def run(session: Session, options: argparse.Namespace) -> int:
    """Model and transform job; then the answers joined to the images' names."""
    settings, console, store = session.settings, session.console, session.backend.store
    images = dataset.check(options.images)
    address = dataset.selected(store, images)
    name = names.unique(settings.project, "transform")
    output = store.address("transform", name)
    model_data = artifact(session, options)
    job = transform.request(settings, name, model=name, address=address, output=output)
    calls = [
        model_call(session, options, name, model_data),
        Call("sagemaker", "CreateTransformJob", job),
    ]
    if options.dry_run:
        session.show(calls)
        return 0
    dataset.bring(store, images, console.say)
    wanted = [n for n in store.files(address) if n.lower().endswith(IMAGE_SUFFIXES)]
    if not wanted:
        raise UserError(f"There are no images in {images}.")
    console.head(
        f"Transforming {len(wanted)} images of {images} by {place(model_data)} ({settings.on})"
    )
    for call in calls:
        session.send(call)
    failure = transform.watch(session, name)
    rows = transform.joined(store, address, output, wanted)
    if failure and all(row.probability is None for row in rows):
        raise UserError(f"{name} did not complete: {failure}")
    try:
        Path(session.directory, options.output).write_text(transform.as_csv(rows), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {options.output} cannot be written: {error.strerror}.") from None
    if failure and not failure.startswith(transform.ABOUT_THE_DATA):
        raise UserError(
            f"{name} did not complete: {failure.rstrip('.')}. The answers that there are: "
            f"{options.output}"
        )
    _report(session, name, model_data, rows, options.output)
    return 0


def _report(
    session: Session, name: str, model_data: str, rows: list[transform.Row], output: str
) -> None:
    console, right = session.console, transform.accuracy(rows)
    missing = [row.image for row in rows if row.probability is None]
    console.say(f"{len(rows) - len(missing)} of {len(rows)} images have an answer: {output}")
    for image in missing[:5]:
        console.say(f"  no answer: {image}")
    if right is not None:
        judged = sum(bool(row.truth) for row in rows)
        console.say(f"Accuracy {right:.1%} on {judged} images in folders that name their classes.")
    console.result(
        {
            "transform_job": name,
            "artifact": model_data,
            "output": output,
            "images": len(rows),
            "without_answer": missing,
            "accuracy": right,
        }
    )
    console.next(("./launch.py deploy", "serve this model"))
