"""Batch transform: a folder of images in, one row per image out."""

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from container.errors import UserError
from launcher.console import duration
from launcher.endpoint import is_gpu
from launcher.logs import TRANSFORM_JOBS, LogReader
from launcher.names import tags
from launcher.session import Session
from launcher.settings import Settings
from launcher.store import Store

OVER = ("Completed", "Failed", "Stopped")
GPU_AMI = "al2-ami-sagemaker-batch-gpu-535"
SUFFIX = ".out"
"""What batch transform adds to an image's name for its answer."""


@dataclass(frozen=True)
class Row:
    """What the model says about one image."""

    image: str
    label: str
    probability: float | None
    truth: str
    """The folder that the image is in, where folders name the classes."""


def request(
    settings: Settings, name: str, *, model: str, address: str, output: str
) -> dict[str, Any]:
    """`CreateTransformJob`: one image per request, as many at a time as the image says."""
    resources = {"InstanceType": settings.endpoint_instance_type, "InstanceCount": 1}
    if is_gpu(settings.endpoint_instance_type):
        resources["TransformAmiVersion"] = GPU_AMI
    return {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": address}},
            "ContentType": "application/x-image",
            "SplitType": "None",
        },
        "TransformOutput": {"S3OutputPath": output, "Accept": "application/json; verbose=true"},
        "TransformResources": resources,
        "Tags": tags(settings.project),
    }


def watch(session: Session, name: str) -> None:
    """Wait until the job is over. Raises UserError where it failed."""
    reader = LogReader(session.backend.client("logs"), TRANSFORM_JOBS, f"{name}/")
    started = time.monotonic()
    while True:
        found = session.sagemaker.describe_transform_job(TransformJobName=name)
        status = found["TransformJobStatus"]
        if status in OVER:
            break
        session.backend.patience.sleep(session.backend.patience.seconds)
    if status != "Completed":
        for line in reader.last_lines(12):
            session.console.quote(line)
        reason = found.get("FailureReason", "it was stopped")
        raise UserError(f"{name} did not complete: {reason}")
    session.console.say(f"{name}: completed after {duration(time.monotonic() - started)}.")


def joined(store: Store, address: str, output: str, images: Sequence[str]) -> list[Row]:
    """Each image with its answer; an image without one has no label."""
    answers = store.files(output)
    classes: set[str] = set()
    found: list[tuple[str, list[Mapping[str, Any]]]] = []
    for image in images:
        name = answer_for(image, answers)
        ranked = json.loads(store.fetch(f"{output.rstrip('/')}/{name}")) if name else []
        classes |= {str(entry["label"]) for entry in ranked}
        found.append((image, ranked))
    return [_row(image, ranked, classes) for image, ranked in found]


def answer_for(image: str, answers: Sequence[str]) -> str | None:
    """The answer's name: batch transform keeps some of the image's folders, and adds a suffix."""
    wanted = PurePosixPath(image + SUFFIX)
    for length in range(len(wanted.parts), 0, -1):
        tail = wanted.parts[-length:]
        matching = [name for name in answers if PurePosixPath(name).parts[-length:] == tail]
        if len(matching) == 1:
            return matching[0]
    return None


def _row(image: str, ranked: Sequence[Mapping[str, Any]], classes: set[str]) -> Row:
    folder = PurePosixPath(image).parent.name
    truth = folder if folder in classes else ""
    if not ranked:
        return Row(image, "", None, truth)
    return Row(image, str(ranked[0]["label"]), float(ranked[0]["probability"]), truth)


def accuracy(rows: Sequence[Row]) -> float | None:
    """The share that is right, of the images in folders that name classes."""
    judged = [row for row in rows if row.truth]
    return sum(row.label == row.truth for row in judged) / len(judged) if judged else None


def as_csv(rows: Sequence[Row]) -> str:
    """One line per image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "probability", "truth"])
    for row in rows:
        probability = "" if row.probability is None else f"{row.probability:.6f}"
        writer.writerow([row.image, row.label, probability, row.truth])
    return text.getvalue()
