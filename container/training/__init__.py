"""Fine-tune a ResNet on a folder of images, as a SageMaker training job does."""

import errno
import sys
import traceback
from collections.abc import Sequence

from container.errors import UserError
from container.hyperparameters import parse
from container.image_variant import require_torch
from container.job import Job
from container.quick_start import import_torchvision
from container.stopping import Stopped, StopSignal
from container.training import flags, script_mode, torchrun


def main(argv: Sequence[str]) -> int:
    """Run the training job of this process and return its exit code.

    This is the failure boundary: whatever goes wrong ends up in `output/failure` and as exit code
    1, a misspelt flag too. SIGTERM and Ctrl-C end the job early, with what was learned saved and
    exit code 0.
    """
    stop = StopSignal()
    stop.install()
    job: Job | None = None
    try:
        given = flags.read(argv)
        job = Job.from_environment()
        if not torchrun.is_child():
            job.failure_file.unlink(missing_ok=True)  # an earlier run's
        require_torch("Training")
        if script_mode.is_requested(job):
            return script_mode.run(job)
        options = parse(job.read_hyperparameters(), given)
        environment = job.environment()
        if torchrun.is_needed(environment):
            return torchrun.run(job, environment, argv, stop)
        # Imported late: torch takes seconds, and `--help` and misspelt options none.
        import_torchvision()
        from container.training.run import train

        train(job, environment, options, stop)
    except Stopped:
        print("Stopped as asked.", flush=True)
    except Exception as error:
        return _fail(job or _job(), error)
    return 0


def _job() -> Job | None:
    """The job of this process, if it has one."""
    try:
        return Job.from_environment()
    except UserError:
        return None


def _fail(job: Job | None, error: Exception) -> int:
    """Say why the job failed, to the log and in its failure file; the exit code."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        error = UserError(
            f"The disk is full: there is no room for {error.filename or 'a file'}. Give the job a "
            "larger volume."
        )
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    another_said_why = (
        job and job.failure_file.exists() and isinstance(error, torchrun.LostConnectionError)
    )
    if job and not another_said_why:
        try:
            job.fail(error)
        except OSError as unwritten:
            print(f"The failure file cannot be written: {unwritten}.", file=sys.stderr)
    return 1
