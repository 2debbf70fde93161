"""Script mode: the user's own training script, run by SageMaker's training toolkit."""

import os
import signal
import subprocess
import sys
from types import FrameType

from container.job import Job


def is_requested(job: Job) -> bool:
    """Whether the job names a script of its own."""
    return "SAGEMAKER_PROGRAM" in os.environ or "sagemaker_program" in job.read_hyperparameters()


def run() -> int:
    """Hand over to the toolkit, and return its exit code.

    The toolkit does not forward SIGTERM to the script, so it and all its children get it here.
    """
    toolkit = subprocess.Popen(
        [sys.executable, "-c", "from sagemaker_training.cli.train import main; main()"],
        start_new_session=True,
    )

    def forward(number: int, frame: FrameType | None) -> None:
        os.killpg(toolkit.pid, number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    return toolkit.wait()
