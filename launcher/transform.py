"""Batch transform: a folder of images in, one row per image out."""

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from launcher.console import duration
from launcher.endpoint import is_gpu
from launcher.logs import TRANSFORM_JOBS, LogReader
from launcher.names import tags
from launcher.session import Session
from launcher.settings import Settings
from launcher.store import Store

OVER = ("Completed", "Failed", "Stopped")
GPU_AMI = "al2-ami-sagemaker-batch-gpu-535"
MEGABYTES = 20
"""Of one image: a camera's photographs have more than the 6 that are the rule."""
ABOUT_THE_DATA = "ClientError"
"""What the reason begins with where the job itself is not at fault."""
THREADS = 8
"""Answers that are fetched at a time."""
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
        "MaxPayloadInMB": MEGABYTES,
        "TransformOutput": {"S3OutputPath": output, "Accept": "application/json; verbose=true"},
        "TransformResources": resources,
        "Tags": tags(settings.project),
    }


def watch(session: Session, name: str) -> str | None:
    """Wait until the job is over; why it did not complete, None where it did.

    A job that one image is refused in goes on with the others, and fails at its end.
    """
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
        return str(found.get("FailureReason", "it was stopped"))
    session.console.say(f"{name}: completed after {duration(time.monotonic() - started)}.")
    return None


def joined(store: Store, address: str, output: str, images: Sequence[str]) -> list[Row]:
    """Each image with its answer; an image without one has no label."""
    names = answers_for(images, store.files(output))

    def ranked(name: str | None) -> list[Mapping[str, Any]]:
        return json.loads(store.fetch(f"{output.rstrip('/')}/{name}")) if name else []

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(ranked, names))
    classes = {str(entry["label"]) for answer in found for entry in answer}
    return [_row(image, answer, classes) for image, answer in zip(images, found, strict=True)]


def answers_for(images: Sequence[str], answers: Sequence[str]) -> list[str | None]:
    """Each answer's name: batch transform keeps some of an image's folders, and adds a suffix."""
    by_tail: dict[str, str | None] = {}
    for name in answers:
        for tail in _tails(name):
            by_tail[tail] = None if tail in by_tail else name  # of two, none is meant
    found = [
        next(((tail, one) for tail in _tails(image + SUFFIX) if (one := by_tail.get(tail))), None)
        for image in images
    ]
    # An answer is one image's: another's, of the same name in another folder, may have none.
    nearest: dict[str, str] = {}
    for tail, name in filter(None, found):
        nearest[name] = max(nearest.get(name, ""), tail, key=len)
    claims = Counter(filter(None, found))
    return [
        match[1] if match and match[0] == nearest[match[1]] and claims[match] == 1 else None
        for match in found
    ]


def _tails(name: str) -> Iterator[str]:
    """The name, then without its first folder, and so on to the last part."""
    parts = PurePosixPath(name).parts
    for start in range(len(parts)):
        yield "/".join(parts[start:])


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
