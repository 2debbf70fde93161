"""`python -m launcher.local.transformer DIRECTORY`: one batch transform, from server to answers."""

import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from container.errors import UserError
from launcher import records, refusals
from launcher.local import layout, loopback
from launcher.local.engines import engine
from launcher.local.jobs import MODEL, SERVER, JobsFolder, local_path
from launcher.local.servers import DEFAULT_START_SECONDS, answers

THREADS = 4
INVOCATION_SECONDS = 600.0
MEGABYTES = 6
SUFFIX = ".out"


class Stopped(Exception):  # noqa: N818 - not an error: the job was asked to stop, and does
    """The job was asked to stop before it was done."""


@dataclass
class Transform:
    """One job under way.

    SIGTERM interrupts nothing, a clean-up least of all: the job looks whether it has come.
    """

    directory: Path
    record: Mapping[str, Any]
    terminated: bool = False

    @property
    def request(self) -> Mapping[str, Any]:
        """What was asked for."""
        request: Mapping[str, Any] = self.record["request"]
        return request

    def run(self) -> dict[str, Any]:
        """Do the job; its last state.

        Raises:
            Stopped: it was asked to stop.
            UserError: it cannot be done.
        """
        folder = JobsFolder(self.directory.parent.parent)
        model = folder.find(MODEL, self.request["ModelName"], "CreateTransformJob")["request"]
        source = local_path(self.request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
        images = _files(source)
        if not images:
            raise UserError(f"ClientError: there are no images at {source}.")
        with self._server(model["PrimaryContainer"]) as url:
            output = local_path(self.request["TransformOutput"]["S3OutputPath"])

            def ask(image: Path) -> bool:
                name = image.relative_to(source) if source.is_dir() else Path(image.name)
                return self._ask(url, image, output / f"{name}{SUFFIX}")

            with ThreadPoolExecutor(THREADS) as pool:
                refused = len(images) - sum(pool.map(ask, images))
        if refused == len(images):
            raise UserError("ClientError: the model refused every image; the log says why.")
        if refused:
            # As on the service: the answers that there are stay, and the job is no success.
            raise UserError(
                f"ClientError: {refused} of {len(images)} images were refused; the log says why."
            )
        return {"TransformJobStatus": "Completed"}

    @contextmanager
    def _server(self, container: Mapping[str, Any]) -> Iterator[str]:
        """The model's server, for as long as it is needed; where it answers."""
        base, runner = self.directory / "opt-ml", engine(self.record["engine"])
        layout.unpack(local_path(container["ModelDataUrl"]), base / "model")
        environment = {
            **container.get("Environment", {}),
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(self.request.get("MaxPayloadInMB", MEGABYTES)),
        }
        self._go_on()
        server = runner.here()
        # To find it again when this process is gone, and before it is started: it may go then.
        records.write(self.directory / SERVER, server)
        try:
            server |= runner.serve(
                container["Image"], base, environment, self.directory / "log.txt"
            )
            records.write(self.directory / SERVER, server)
            deadline = time.monotonic() + DEFAULT_START_SECONDS
            while not answers(server["url"]):
                self._go_on()
                if time.monotonic() > deadline or not runner.server_runs(server):
                    raise UserError(
                        "AlgorithmError: the server did not answer a ping; see its log."
                    )
                time.sleep(0.1)
            yield server["url"]
        finally:
            try:
                runner.stop_server(server, base)
                (self.directory / SERVER).unlink()
            except UserError as error:
                # It is stopped when somebody looks at the job; the answers are there.
                self._log(str(error))

    def _ask(self, url: str, image: Path, answer: Path) -> bool:
        """One image; an image that is refused has no answer, as on the service."""
        self._go_on()
        headers = {
            "Content-Type": self.request["TransformInput"].get("ContentType", ""),
            "Accept": self.request["TransformOutput"].get("Accept", "*/*"),
        }
        message = urllib.request.Request(  # noqa: S310 - the address is our own server's
            f"{url}/invocations", image.read_bytes(), headers, method="POST"
        )
        try:
            with loopback.send(message, INVOCATION_SECONDS) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace").strip()
            self._log(f"{image.name}: {error.code} {said}")
            return False
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_bytes(content)
        return True

    def _log(self, line: str) -> None:
        """Say something in the job's log, among what its server prints."""
        with (self.directory / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def _go_on(self) -> None:
        if self.terminated:
            raise Stopped

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGTERM."""
        self.terminated = True


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return sorted(path for path in source.rglob("*") if path.is_file())


def main(argv: list[str]) -> int:
    """Run the transform of one directory."""
    directory = Path(argv[0])
    transform = Transform(directory, records.read(directory / "record.json"))
    signal.signal(signal.SIGTERM, transform.ask_to_stop)
    try:
        state = transform.run()
    except Stopped:
        state = {"TransformJobStatus": "Stopped"}
    except UserError as error:
        state = {"TransformJobStatus": "Failed", "FailureReason": str(error)}
    except OSError as error:
        reason = f"InternalServerError: {refusals.sentence(error)}"
        state = {"TransformJobStatus": "Failed", "FailureReason": reason}
    records.write(directory / "progress.json", state)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
