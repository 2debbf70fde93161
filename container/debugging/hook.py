"""The smdebug hook: SageMaker's configuration if there is one, Kennel's own presets if asked for.

smdebug never takes training down: what fails in it is reported once, and training goes on.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from container.debugging import presets
from container.debugging.tensors import HOOK_OFF_FILE
from container.errors import UserError
from container.job import Job
from container.progress import say

END_FILE = "training_job_end.ts"
"""What tells readers of the tensors that no more will come."""


class Hook:
    """A hook that saves nothing: what a job without debugging has."""

    directory: Path | None = None
    """Where the tensors are."""
    collections: tuple[str, ...] = ()
    """The smdebug collections that are saved."""
    failure: str | None = None
    """Why tensors are missing, in one sentence."""

    def seconds(self) -> float:
        """The time that the hook has taken so far."""
        return 0.0

    def register(
        self, network: nn.Module, criterion: nn.Module, *, trained: int = 0, evaluated: int = 0
    ) -> None:
        """Watch a network and its loss. Comes after the head is new and the backbone frozen.

        After a resume, steps are numbered on from those trained and evaluated before, and what
        was saved of later ones is dropped: they are done again.
        """

    def training(self) -> None:
        """The steps from here on are training steps."""

    def evaluation(self) -> None:
        """The steps from here on are evaluation steps."""

    def close(self) -> None:
        """Write what is left; the files are complete after this."""


def saves_tensors(job: Job, preset: str) -> bool:
    """Whether anything asks for tensors to be saved. Raises UserError as `create_hook` does."""
    return (_read_configuration(job) or presets.configuration(preset)) is not None


def create_hook(job: Job, preset: str) -> Hook:
    """SageMaker's hook configuration if there is one, else the preset's, else no hook.

    Among the processes of a distributed training only the first has a hook, unless the
    configuration asks for all workers. Call it after the process group is there, or all workers
    would take themselves for the first.

    Raises:
        UserError: the configuration file is there and is not JSON.
    """
    configuration = _read_configuration(job) or presets.configuration(preset)
    first = os.environ.get("RANK", "0") == "0"
    if configuration is None or not (first or _wants_all_workers(configuration)):
        return Hook()
    configuration.setdefault("LocalPath", str(job.output_dir / "tensors"))
    directory = Path(configuration["LocalPath"])
    try:
        if first:
            _clear(directory)
        # Imported here: where smdebug cannot be installed, training runs without it.
        from container.debugging.smdebug_hook import SmdebugHook

        hook = SmdebugHook(configuration, directory)
    except Exception as error:  # whatever ails smdebug, training goes on
        absent = Hook()
        absent.failure = f"smdebug cannot start ({type(error).__name__}: {error})."
        say(f"No tensors are saved: {absent.failure}")
        return absent
    say(f"smdebug saves tensors to {directory}.")
    return hook


def _read_configuration(job: Job) -> dict[str, Any] | None:
    default = job.config_dir / "debughookconfig.json"
    path = Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", default))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"smdebug's configuration {path} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(f"smdebug's configuration {path} must hold a JSON object.")
    return content


def _wants_all_workers(configuration: dict[str, Any]) -> bool:
    parameters = configuration.get("HookParameters")
    return isinstance(parameters, dict) and parameters.get("include_workers") == "all"


def _clear(directory: Path) -> None:
    """Remove a killed run's marks: smdebug writes nothing, silently, where it finds a claim."""
    for name in ("claim.smd", END_FILE, HOOK_OFF_FILE):
        (directory / name).unlink(missing_ok=True)


def mark_off(directory: Path) -> None:
    """Tell the rules beside training that no more tensors come, or they take it for stalled."""
    # Where there is no directory there are no tensors to miss; a full disk may not take the file.
    with suppress(OSError):
        (directory / HOOK_OFF_FILE).touch()


def drop_steps(directory: Path, first: int) -> None:
    """Remove what an earlier run saved of a global step and all that follow it."""
    for path in [*directory.glob("events/*"), *directory.glob("index/*/*.json")]:
        number = path.name.partition("_")[0]
        if number.isdigit() and int(number) < first:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
