"""The /opt/ml contract: a training job's configuration files, channels and outputs.

SageMaker lays out the directory; `docker run -v` gives a part of it; without Docker the
environment variable SAGEMAKER_BASE_DIR names a directory that takes its place.
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import json
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.errors import UserError

FAILURE_REASON_LENGTH = 1024
"""SageMaker shows the first 1,024 characters of `output/failure` as the FailureReason."""


@dataclass(frozen=True)
class Job:
    """Where one training job reads and writes."""

    base: Path

    @classmethod
    def from_environment(cls) -> "Job":
        """The job of this process. Raises UserError where there is none."""
        base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
        if not base.is_dir():
            raise UserError(
                f"There is no directory {base}. Mount your images at /opt/ml/input/data/train, or "
                "set SAGEMAKER_BASE_DIR to a directory that holds them at input/data/train."
            )
        return cls(base.resolve())

    @property
    def config_dir(self) -> Path:
        """The service's configuration files; any of them may be missing."""
        return self.base / "input/config"

    @property
    def data_dir(self) -> Path:
        """One directory per channel."""
        return self.base / "input/data"

    @property
    def model_dir(self) -> Path:
        """Its content becomes `model.tar.gz`."""
        return self.base / "model"

    @property
    def output_dir(self) -> Path:
        """`failure`, and the directories that smdebug writes to."""
        return self.base / "output"

    @property
    def output_data_dir(self) -> Path:
        """Its content becomes `output.tar.gz`."""
        return self.base / "output/data"

    @property
    def checkpoint_dir(self) -> Path:
        """Synchronised with S3 while the job runs, where the job asks for it."""
        return self.base / "checkpoints"

    @property
    def failure_file(self) -> Path:
        """Why the job failed, for the person who started it."""
        return self.base / "output/failure"

    def read_hyperparameters(self) -> dict[str, object]:
        """`hyperparameters.json`, or nothing where there is none. Raises UserError."""
        return self._read("hyperparameters.json") or {}

    def environment(self) -> "JobEnvironment":
        """Hosts and channels, through SageMaker's own toolkit. Raises UserError."""
        # The toolkit reads SAGEMAKER_BASE_DIR when it is imported, and creates `code` beside it.
        os.environ["SAGEMAKER_BASE_DIR"] = str(self.base)
        try:
            from sagemaker_training import environment
        except OSError as error:
            raise UserError(f"{self.base} cannot be written to: {error.strerror}.") from None

        channels = self._read("inputdataconfig.json") or self._channels_on_disk()
        resources = self._read("resourceconfig.json") or {
            "current_host": "algo-1",
            "hosts": ["algo-1"],
        }
        toolkit = environment.Environment(
            resource_config=resources,
            input_data_config=channels,
            # Never empty, or the toolkit insists on reading the file that may be missing.
            hyperparameters={"sagemaker_job_name": os.environ.get("TRAINING_JOB_NAME", "")},
        )
        return JobEnvironment(
            channels={name: self.data_dir / name for name in toolkit.channel_input_dirs},
            hosts=tuple(toolkit.hosts),
            current_host=toolkit.current_host,
            network_interface=toolkit.network_interface_name,
            sharded=frozenset(
                name
                for name, channel in channels.items()
                if channel.get("S3DistributionType") == "ShardedByS3Key" and len(toolkit.hosts) > 1
            ),
        )

    def fail(self, error: Exception) -> None:
        """Write `output/failure`: the sentence first, and for our own faults the traceback."""
        if isinstance(error, UserError):
            text = str(error)[:FAILURE_REASON_LENGTH]
        else:
            where = "".join(traceback.format_exception(error))
            text = f"{type(error).__name__}: {error}"[:FAILURE_REASON_LENGTH] + f"\n\n{where}"
        self.output_dir.mkdir(parents=True, exist_ok=True)
        # Names of files, which may be in it, need not be UTF-8.
        self.failure_file.write_text(text, encoding="utf-8", errors="backslashreplace")

    def _channels_on_disk(self) -> dict[str, Any]:
        """A bare `docker run -v` has no inputdataconfig.json: each directory is a channel."""
        directories = self.data_dir.iterdir() if self.data_dir.is_dir() else ()
        channels: dict[str, Any] = {path.name: {} for path in sorted(directories) if path.is_dir()}
        if not channels:
            raise UserError(
                f"There are no images: {self.data_dir} holds no channel. Mount or copy a folder of "
                f"images per class to {self.data_dir / 'train'}."
            )
        return channels

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.config_dir / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}.") from None
        if not isinstance(content, dict):
            raise UserError(f"{path} must hold a JSON object, not {type(content).__name__}.")
        return content


@dataclass(frozen=True)
class JobEnvironment:
    """What the platform gave this job."""

    channels: dict[str, Path]
    hosts: tuple[str, ...]
    current_host: str
    network_interface: str
    sharded: frozenset[str] = frozenset()
    """The channels of which each host got other files."""
