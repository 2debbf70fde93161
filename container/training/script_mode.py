"""Script mode: the user's own training script, run by SageMaker's training toolkit."""

import json
import os
import signal
import socket
import subprocess
import sys
from types import FrameType

from container.job import Job


def is_requested(job: Job) -> bool:
    """Whether the job names a script of its own."""
    return "SAGEMAKER_PROGRAM" in os.environ or "sagemaker_program" in job.read_hyperparameters()


def run(job: Job) -> int:
    """Hand over to the toolkit, and return its exit code.

    The toolkit does not forward SIGTERM to the script, so it and all its children get it here.
    """
    _complete_configuration(job)
    toolkit = subprocess.Popen(
        [sys.executable, "-c", "from sagemaker_training.cli.train import main; main()"],
        start_new_session=True,
    )

    def forward(number: int, frame: FrameType | None) -> None:
        os.killpg(toolkit.pid, number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    return toolkit.wait()


def _complete_configuration(job: Job) -> None:
    """Write the files that the toolkit insists on and a bare `docker run -v` does not have."""
    job.config_dir.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    defaults: dict[str, dict[str, object]] = {
        "hyperparameters.json": {},
        "inputdataconfig.json": {path.name: {} for path in job.data_dir.glob("*/")},
        "resourceconfig.json": {"current_host": host, "hosts": [host], "instance_groups": []},
    }
    for name, content in defaults.items():
        path = job.config_dir / name
        if not path.exists():
            path.write_text(json.dumps(content), encoding="utf-8")
