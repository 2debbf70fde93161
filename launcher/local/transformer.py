"""`python -m launcher.local.transformer DIRECTORY`: one batch transform, from server to answers."""

import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from container.errors import UserError
from launcher import records
from launcher.local import layout
from launcher.local.endpoint import DEFAULT_START_SECONDS, answers
from launcher.local.engines import engine
from launcher.local.jobs import MODEL, SERVER, JobsFolder, local_path

THREADS = 4
INVOCATION_SECONDS = 600.0
MEGABYTES = 6
SUFFIX = ".out"


class Stopped(Exception):  # noqa: N818 - not an error: the job was asked to stop, and does
    """The job was asked to stop before it was done."""


def run(directory: Path) -> dict[str, Any]:
    """Do the job of one directory; its last state."""
    record = records.read(directory / "record.json")
    request = record["request"]
    folder = JobsFolder(directory.parent.parent)
    model = folder.find(MODEL, request["ModelName"], "CreateTransformJob")["request"]
    source = local_path(request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
    images = _files(source)
    if not images:
        raise UserError(f"ClientError: there are no images at {source}.")
    with _server(directory, record["engine"], model["PrimaryContainer"]) as url:
        output = local_path(request["TransformOutput"]["S3OutputPath"])

        def ask(image: Path) -> bool:
            name = image.relative_to(source) if source.is_dir() else Path(image.name)
            return _ask(url, request, image, output / f"{name}{SUFFIX}")

        with ThreadPoolExecutor(THREADS) as pool:
            answered = sum(pool.map(ask, images))
    if not answered:
        raise UserError("ClientError: the model refused every image; the log says why.")
    return {"TransformJobStatus": "Completed"}


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return sorted(path for path in source.rglob("*") if path.is_file())


@contextmanager
def _server(directory: Path, engine_name: str, container: dict[str, Any]) -> Iterator[str]:
    """The model's server, for as long as it is needed; where it answers."""
    base, runner = directory / "opt-ml", engine(engine_name)
    layout.unpack(local_path(container["ModelDataUrl"]), base / "model")
    environment = {
        **container.get("Environment", {}),
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(MEGABYTES),
    }
    server = runner.serve(container["Image"], base, environment, directory / "log.txt")
    # To find it again when this process is gone.
    records.write(directory / SERVER, server)
    try:
        deadline = time.monotonic() + DEFAULT_START_SECONDS
        while not answers(server["url"]):
            if time.monotonic() > deadline or not runner.server_runs(server):
                raise UserError("AlgorithmError: the server did not answer a ping; see its log.")
            time.sleep(0.1)
        yield server["url"]
    finally:
        runner.stop_server(server)
        (directory / SERVER).unlink()


def _ask(url: str, request: dict[str, Any], image: Path, answer: Path) -> bool:
    """One image; an image that is refused has no answer, as on the service."""
    headers = {
        "Content-Type": request["TransformInput"].get("ContentType", ""),
        "Accept": request["TransformOutput"].get("Accept", "*/*"),
    }
    message = urllib.request.Request(  # noqa: S310 - the address is our own server's
        f"{url}/invocations", image.read_bytes(), headers, method="POST"
    )
    try:
        with urllib.request.urlopen(message, timeout=INVOCATION_SECONDS) as response:  # noqa: S310
            content = response.read()
    except urllib.error.HTTPError as error:
        said = error.read().decode("utf-8", "replace").strip()
        print(f"{image.name}: {error.code} {said}", flush=True)
        return False
    answer.parent.mkdir(parents=True, exist_ok=True)
    answer.write_bytes(content)
    return True


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def main(argv: list[str]) -> int:
    """Run the transform of one directory."""
    directory = Path(argv[0])
    signal.signal(signal.SIGTERM, _stop)
    try:
        state = run(directory)
    except Stopped:
        state = {"TransformJobStatus": "Stopped"}
    except UserError as error:
        state = {"TransformJobStatus": "Failed", "FailureReason": str(error)}
    records.write(directory / "progress.json", state)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
