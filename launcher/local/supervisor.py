"""`python -m launcher.local.supervisor DIRECTORY`: one training job to its artifact.

It is a process of its own, so that a job goes on when the launcher ends; what it has to say is in
`progress.json`, which only it writes.
"""

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from container.errors import UserError
from launcher import records
from launcher.local import layout
from launcher.local.engines import Run, engine
from launcher.local.job_log import final_metrics
from launcher.local.jobs import STOP, local_path, now

STOP_GRACE_SECONDS = 120.0
"""As long as SageMaker gives a training that is stopped."""
FAILURE_REASON_LENGTH = 1024
POLL_SECONDS = 0.05


@dataclass
class Supervision:
    """One job under way."""

    directory: Path
    record: Mapping[str, Any]
    progress: dict[str, Any] = field(default_factory=dict)
    terminated: bool = False

    @property
    def stop_requested(self) -> bool:
        """Whether the job is to end early."""
        return self.terminated or (self.directory / STOP).exists()

    @property
    def request(self) -> Mapping[str, Any]:
        """What was asked for."""
        request: Mapping[str, Any] = self.record["request"]
        return request

    @property
    def base(self) -> Path:
        """The job's `/opt/ml`."""
        return self.directory / "opt-ml"

    def say(self, status: str, secondary: str, **facts: Any) -> None:
        """Put the job's new state on disk."""
        self.progress |= {"TrainingJobStatus": status, "SecondaryStatus": secondary, **facts}
        records.write(self.directory / "progress.json", self.progress)

    def run(self) -> None:
        """Lay out, train, pack."""
        self.say("InProgress", "Downloading")
        try:
            hosts = layout.write(self.base, self.request)
        except UserError as error:
            self._end("Failed", "Failed", FailureReason=f"ClientError: {error}")
            return
        if self.stop_requested:
            self._end("Stopped", "Stopped")
            return
        try:
            run = self._start(hosts)
        except UserError as error:
            self._end("Failed", "Failed", FailureReason=f"InternalServerError: {error}")
            return
        self.say("InProgress", "Training", TrainingStartTime=now())
        code, ended_by = self._wait(run)
        run.collect()
        self._finish(code, ended_by)

    def _start(self, hosts: Sequence[layout.Host]) -> Run:
        runner, place = engine(self.record["engine"]), self.directory / "run.json"
        # Before it is started: this process may be gone in the meantime.
        records.write(place, runner.here())
        run = runner.train(
            self.request["AlgorithmSpecification"]["TrainingImage"],
            self.base,
            hosts,
            self._environment(),
            self.directory / "log.txt",
        )
        records.write(place, {**runner.here(), **run.record()})
        return run

    def _environment(self) -> dict[str, str]:
        return {
            **self.request.get("Environment", {}),
            "TRAINING_JOB_NAME": self.request["TrainingJobName"],
            "TRAINING_JOB_ARN": self.record["TrainingJobArn"],
        }

    def _wait(self, run: Run) -> tuple[int, str | None]:
        """The exit code, and what ended the job if it did not end by itself."""
        longest = self.request["StoppingCondition"].get("MaxRuntimeInSeconds", 86_400)
        deadline = time.monotonic() + longest
        while (code := run.poll()) is None:
            ended_by = (
                "Stopped"
                if self.stop_requested
                else "MaxRuntimeExceeded"
                if time.monotonic() > deadline
                else None
            )
            if ended_by:
                self.say("Stopping", "Stopping")
                run.stop(STOP_GRACE_SECONDS)
                return run.poll() or 0, ended_by
            time.sleep(POLL_SECONDS)
        return code, None

    def _finish(self, code: int, ended_by: str | None) -> None:
        if code and not ended_by:
            self._end("Failed", "Failed", FailureReason=self._failure(code))
            return
        self.say("Stopping" if ended_by else "InProgress", "Uploading", TrainingEndTime=now())
        place = local_path(self.request["OutputDataConfig"]["S3OutputPath"])
        output = place / self.request["TrainingJobName"] / "output"
        facts: dict[str, Any] = {}
        layout.pack(self.base / "output/data", output / "output.tar.gz")
        if layout.pack(self.base / "model", output / "model.tar.gz"):
            artifact = (output / "model.tar.gz").as_uri()
            facts["ModelArtifacts"] = {"S3ModelArtifacts": artifact}
        if ended_by:
            self._end("Stopped", ended_by, **facts)
        else:
            self._end("Completed", "Completed", **facts)

    def _failure(self, code: int) -> str:
        written = self.base / "output/failure"
        if written.is_file():
            reason = written.read_text(encoding="utf-8", errors="replace")
            return f"AlgorithmError: {reason}"[:FAILURE_REASON_LENGTH]
        return f"AlgorithmError: train ended with exit code {code}."

    def _end(self, status: str, secondary: str, **facts: Any) -> None:
        self.progress.setdefault("TrainingEndTime", now())
        if metrics := final_metrics(self.directory, self.request):
            facts["FinalMetricDataList"] = metrics
        self.say(status, secondary, **facts)

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGTERM."""
        self.terminated = True


def main(argv: list[str]) -> int:
    """Run the job of one directory."""
    directory = Path(argv[0])
    supervision = Supervision(directory, records.read(directory / "record.json"))
    signal.signal(signal.SIGTERM, supervision.ask_to_stop)
    supervision.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
