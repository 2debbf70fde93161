"""Fine-tune a ResNet on a folder of images, as a SageMaker training job does."""

import sys
import traceback
from collections.abc import Sequence

from container.errors import UserError
from container.hyperparameters import parse
from container.job import Job
from container.quick_start import import_torchvision
from container.training import flags, script_mode, torchrun
from container.training.stopping import Stopped, StopSignal


def main(argv: Sequence[str]) -> int:
    """Run the training job of this process and return its exit code.

    This is the failure boundary: whatever goes wrong ends up in `output/failure` and as exit code
    1. SIGTERM and Ctrl-C end the job early, with what was learned saved and exit code 0.
    """
    stop = StopSignal()
    stop.install()
    job: Job | None = None
    try:
        given = flags.read(argv)
        job = Job.from_environment()
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
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        if job:
            job.fail(error)
        return 1
    except Exception as error:
        traceback.print_exc()
        if job:
            job.fail(error)
        return 1
    return 0
