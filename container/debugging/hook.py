"""The smdebug hook: SageMaker's configuration if there is one, Kennel's own presets if asked for.

smdebug never takes training down: what fails in it is reported once, and training goes on.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from container.errors import UserError
from container.job import Job
from container.progress import say

_REDUCTIONS = "mean,std,min,max,abs_mean,abs_max,l2_norm"
_SUMMARY = {"train.save_interval": "50", "eval.save_interval": "1000000", "reductions": _REDUCTIONS}
_LOSSES = {"train.save_interval": "10", "eval.save_interval": "1"}

PRESETS: dict[str, dict[str, dict[str, str]]] = {
    "losses": {"losses": _LOSSES},
    "standard": {
        "losses": _LOSSES,
        "gradients": _SUMMARY,
        "weights": _SUMMARY,
        "biases": _SUMMARY,
    },
}
"""The collections that each value of the hyperparameter `debug` saves."""


class Hook:
    """A hook that saves nothing: what a job without debugging has."""

    def register(self, network: nn.Module, criterion: nn.Module) -> None:
        """Watch a network and its loss. Comes after the head is new and the backbone frozen."""

    def training(self) -> None:
        """The steps from here on are training steps."""

    def evaluation(self) -> None:
        """The steps from here on are evaluation steps."""

    def close(self) -> None:
        """Write what is left; the files are complete after this."""


def create_hook(job: Job, preset: str) -> Hook:
    """SageMaker's hook configuration if there is one, else the preset's, else no hook.

    Raises:
        UserError: the configuration file is there and is not JSON.
    """
    configuration = _read_configuration(job) or _preset_configuration(job, preset)
    if configuration is None:
        return Hook()
    configuration.setdefault("LocalPath", str(job.output_dir / "tensors"))
    directory = Path(configuration["LocalPath"])
    try:
        _clear(directory)
        hook = _SmdebugHook(configuration)
    except Exception as error:  # whatever ails smdebug, training goes on
        say(f"No tensors are saved: smdebug cannot start ({type(error).__name__}: {error}).")
        return Hook()
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


def _preset_configuration(job: Job, preset: str) -> dict[str, Any] | None:
    if preset not in PRESETS:
        return None
    return {
        "S3OutputPath": "",
        "CollectionConfigurations": [
            {"CollectionName": name, "CollectionParameters": parameters}
            for name, parameters in PRESETS[preset].items()
        ],
    }


def _clear(directory: Path) -> None:
    """Remove what an earlier run left: smdebug writes nothing, silently, where it finds a claim."""
    for name in ("claim.smd", "training_job_end.ts"):
        (directory / name).unlink(missing_ok=True)
    for name in ("collections", "events", "index"):
        shutil.rmtree(directory / name, ignore_errors=True)


class _SmdebugHook(Hook):
    def __init__(self, configuration: dict[str, Any]) -> None:
        os.environ.setdefault("SMDEBUG_LOG_LEVEL", "error")
        # smdebug would walk the checkpoints at every step and add a file of its own to them.
        os.environ["CHECKPOINT_CONFIG_FILE_PATH"] = os.devnull + "/none"
        import smdebug.pytorch as smdebug
        from smdebug.core.error_handling_agent import ErrorHandlingAgent

        class ForgivingHook(smdebug.Hook):  # type: ignore[misc]
            """Switches itself off at its first error, as smdebug does in its default set-up."""

            def has_default_configuration(self) -> bool:
                return True

        self._modes = smdebug.modes
        self._agent = ErrorHandlingAgent.get_error_handling_agent()
        self._reported = False
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(configuration, file)
            file.flush()
            self._hook = ForgivingHook.create_from_json_file(file.name)

    def register(self, network: nn.Module, criterion: nn.Module) -> None:
        self._hook.register_module(network)
        self._hook.register_loss(criterion)

    def training(self) -> None:
        self._set_mode(self._modes.TRAIN)

    def evaluation(self) -> None:
        self._set_mode(self._modes.EVAL)

    def close(self) -> None:
        self._report_failure()
        try:
            self._hook.close()
        except Exception as error:
            say(f"smdebug could not finish its files ({type(error).__name__}: {error}).")

    def _set_mode(self, mode: object) -> None:
        self._report_failure()
        self._hook.set_mode(mode)

    def _report_failure(self) -> None:
        if self._agent.disable_smdebug and not self._reported:
            self._reported = True
            say("smdebug failed and has switched itself off; training goes on without it.")
