"""smdebug's own hook with its traps closed. Imports smdebug, as no other room does.

smdebug 1.0.34 hangs when its disk is full, cannot save bfloat16, aborts training on its own errors
and follows checkpoints that are not its business; each method below says which one it is for.
"""

import atexit
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from container.debugging.hook import Hook
from container.progress import say

# Its profiler does not know this torch, and hangs training when its directory goes away.
os.environ.setdefault("SMPROFILER_CONFIG_PATH", os.devnull + "/none")
os.environ.setdefault("SMDEBUG_LOG_LEVEL", "critical")

import smdebug.pytorch
from smdebug.core.error_handling_agent import ErrorHandlingAgent

from container.debugging.direct_writer import install

RESERVED_BYTES = 256 * 2**20
"""Room that tensors leave on their disk: the model and the checkpoints come first."""

install()


class ForgivingHook(smdebug.pytorch.Hook):  # type: ignore[misc]
    """Switches itself off at its first error, as smdebug does in its default set-up alone."""

    failure: BaseException | None = None

    inert = True
    """A copied or pickled network holds an empty hook, which is to do nothing rather than crash."""

    def __init__(self, **settings: Any) -> None:
        self.seconds = 0.0
        self.inert = False
        super().__init__(**settings)

    def has_default_configuration(self) -> bool:
        """smdebug asks this while it handles an error, to know whether to abort training."""
        self.failure = sys.exc_info()[1]
        return True

    def _initialize_writers(self, only_initialize_if_missing: bool = False) -> None:
        directory = next(p for p in (Path(self.out_dir), *Path(self.out_dir).parents) if p.exists())
        if shutil.disk_usage(directory).free < RESERVED_BYTES:
            raise OSError(f"less than {RESERVED_BYTES // 2**20} MiB are free at {directory}")
        super()._initialize_writers(only_initialize_if_missing)

    def backward_hook(self, name: str) -> Any:
        """The function that saves a gradient: the one place where smdebug's own errors, a full
        disk included, would reach training whatever its set-up.
        """
        back = super().backward_hook(name)
        agent = ErrorHandlingAgent.get_error_handling_agent()
        return back and self._timed(agent.catch_smdebug_errors()(back))

    def forward_pre_hook(self, module: nn.Module, inputs: Any) -> None:
        """smdebug's own, timed."""
        if not self.inert:
            self._timed(super().forward_pre_hook)(module, inputs)

    def forward_hook(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """smdebug's own, timed."""
        if not self.inert:
            self._timed(super().forward_hook)(module, inputs, outputs)

    def fhook(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """Of smdebug's profiler, which is off."""

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                self.seconds += time.perf_counter() - started

        return timed

    def _write_outputs(self, name: str, outputs: Any) -> None:
        super()._write_outputs(name, outputs)
        if name.rpartition(".")[2].startswith("relu") and isinstance(outputs, Tensor):
            self._save_activity(name, outputs)

    def _save_activity(self, name: str, outputs: Tensor) -> None:
        """How often each channel of a ReLU is above zero: what a dead one shows, in few numbers."""
        numbered = f"{name}_activity_{self.written_tensor_name_for_step[name + '_activity']}"
        self.written_tensor_name_for_step[name + "_activity"] += 1
        due = self._get_collections_with_tensor(numbered) & self._get_collections_to_save_for_step()
        if due:
            above = (outputs.detach() > 0).float()
            share = above.mean(dim=[0, *range(2, above.ndim)])
            self._save_for_tensor(numbered, share)

    def _log_params(self, module: nn.Module) -> None:
        super()._log_params(module)
        if self.mode != smdebug.pytorch.modes.TRAIN or not self._updates_are_due():
            return
        # The weights when they were last saved; smdebug's constructor leaves no room for them.
        before: dict[str, Tensor] = self.__dict__.setdefault("_before", {})
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and parameter.ndim > 1:
                now = parameter.detach().float().cpu()
                if name in before:
                    ratio = (now - before[name]).norm() / (before[name].norm() + 1e-9)
                    # Not by its whole name: smdebug takes all that holds "weight" for a weight.
                    layer = f"{type(module).__name__}_{name}".replace(".weight", "")
                    self._save_for_tensor(f"update/{layer}", ratio)
                before[name] = now.clone() if now.data_ptr() == parameter.data_ptr() else now

    def _updates_are_due(self) -> bool:
        return any(each.name == "updates" for each in self._get_collections_to_save_for_step())

    @staticmethod
    def _make_numpy_array(value: Any) -> Any:
        return smdebug.pytorch.Hook._make_numpy_array(_widened(value))

    @staticmethod
    def _get_reduction_of_data(reduction: str, value: Any, name: str, abs: bool) -> Any:
        return smdebug.pytorch.Hook._get_reduction_of_data(reduction, _widened(value), name, abs)


def _widened(value: Any) -> Any:
    """NumPy has no bfloat16."""
    if isinstance(value, Tensor) and value.dtype == torch.bfloat16:
        return value.float()
    return value


class SmdebugHook(Hook):
    """A hook that saves what a configuration asks for."""

    def __init__(self, configuration: dict[str, Any], directory: Path) -> None:
        # It would walk the checkpoints at every step and add a file of its own to them.
        os.environ["CHECKPOINT_CONFIG_FILE_PATH"] = os.devnull + "/none"
        self.directory = directory
        asked = configuration.get("CollectionConfigurations") or ()
        self.collections = ("losses", *(str(each["CollectionName"]) for each in asked))
        self._agent = ErrorHandlingAgent.get_error_handling_agent()
        self._agent.disable_smdebug = False
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(configuration, file)
            file.flush()
            self._hook = ForgivingHook.create_from_json_file(file.name)
        # It would close itself a second time at exit, with a traceback if its disk is full.
        atexit.unregister(self._hook._cleanup)
        if self._agent.disable_smdebug:
            raise self._hook.failure or RuntimeError("unknown error")

    def seconds(self) -> float:
        """The time that smdebug has taken so far."""
        return float(self._hook.seconds)

    def register(self, network: nn.Module, criterion: nn.Module) -> None:
        """Watch a network and its loss."""
        if not any(isinstance(module, nn.ReLU) for module in network.modules()):
            self.collections = tuple(n for n in self.collections if not n.startswith("relu"))
        self._hook.register_module(network)
        self._hook.register_loss(criterion)

    def training(self) -> None:
        """The steps from here on are training steps."""
        self._set_mode(smdebug.pytorch.modes.TRAIN)

    def evaluation(self) -> None:
        """The steps from here on are evaluation steps."""
        self._set_mode(smdebug.pytorch.modes.EVAL)

    def close(self) -> None:
        """Write what is left, and mark the end."""
        self._report_failure()
        try:
            self._hook.close()
        except Exception as error:  # the disk may still be full
            self._fail(f"smdebug could not finish its files ({type(error).__name__}: {error}).")
        # smdebug leaves this to SageMaker's service in its jobs; local readers wait for it.
        end = Path(self._hook.out_dir) / "training_job_end.ts"
        if end.parent.is_dir() and not self.failure:
            end.touch()

    def _set_mode(self, mode: object) -> None:
        self._report_failure()
        self._hook.set_mode(mode)

    def _report_failure(self) -> None:
        if self._agent.disable_smdebug:
            error = self._hook.failure
            self._fail(
                "smdebug failed and has switched itself off; training goes on without it "
                f"({type(error).__name__}: {error})."
            )

    def _fail(self, sentence: str) -> None:
        if self.failure is None:
            self.failure = sentence
            say(sentence)
