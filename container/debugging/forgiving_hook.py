"""smdebug's hook with its traps closed and its costs cut.

smdebug 1.0.34 hangs when its disk is full, cannot save bfloat16, aborts training on its own errors,
and calls Python for every module and parameter at every step. Here a step at which nothing is due
costs one call: modules and parameters are hooked only for the steps that save something of them.
"""

import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Its profiler does not know this torch, and hangs training when its directory goes away.
os.environ.setdefault("SMPROFILER_CONFIG_PATH", os.devnull + "/none")
os.environ.setdefault("SMDEBUG_LOG_LEVEL", "critical")

import smdebug.pytorch
from smdebug.core.collection import SCALAR_COLLECTIONS
from smdebug.core.error_handling_agent import ErrorHandlingAgent

from container.debugging import writers
from container.debugging.hook import mark_off
from container.debugging.reductions import Reduction, reduce

RESERVED_BYTES = 256 * 2**20
"""Room that tensors leave on their disk: the model and the checkpoints come first."""

ACTIVITY_IMAGES = 8
"""Images of a batch in which a ReLU's channels are looked for: a dead one is so in all of them."""

writers.install()

AGENT = ErrorHandlingAgent.get_error_handling_agent()
MODES = smdebug.pytorch.modes


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Of a hook that training calls: errors are smdebug's own affair, and the time is counted.

    Does nothing in a copied or pickled network, which holds an empty hook, nor in one that
    torch.compile is tracing, where each call would break the graph.
    """
    caught = AGENT.catch_smdebug_errors()(method)

    @functools.wraps(method)
    def guarded(self: "ForgivingHook", *arguments: Any) -> None:
        if self.inert or torch.compiler.is_compiling():
            return
        started = time.perf_counter()
        try:
            caught(self, *arguments)
        finally:
            self.seconds += time.perf_counter() - started

    return guarded


class ForgivingHook(smdebug.pytorch.Hook):  # type: ignore[misc]
    """Switches itself off at its first error, as smdebug does in its default set-up alone."""

    failure: BaseException | None = None

    inert = True
    """Set where `__init__` has run, which it has not in the hook of a copied network."""

    def __init__(self, **settings: Any) -> None:
        self.inert = False
        self.seconds = 0.0
        self.exported_collections = False
        self._network: nn.Module | None = None
        self._modules: tuple[nn.Module, ...] = ()
        self._attached: list[torch.utils.hooks.RemovableHandle] = []
        self._due: Any = None
        """The mode, and the collections that this step saves; None where it saves nothing."""
        self._useful: dict[Any, set[nn.Module]] = {}
        """For each `_due` that has been seen, the modules of which something was saved."""
        self.blind = False
        """Whether the loss was called though the network never was, as far as this hook saw."""
        self._written = 0
        """Tensors that were saved, whole or as reductions."""
        self._has_trained = False
        """Whether training went on since the last evaluation began."""
        self._moment = (MODES.GLOBAL, 0)
        """The mode and step that the open file is of."""
        self._names: list[str] = []
        self._numbers: list[Tensor] = []
        """This step's reductions, still on the device, and their names."""
        self._before: dict[str, Tensor] = {}
        """The weights when they were last saved."""
        super().__init__(**settings)

    def has_default_configuration(self) -> bool:
        """smdebug asks this while it handles an error, to know whether to abort training."""
        self.failure = sys.exc_info()[1]
        if self._network is not None:
            # At once: training tells of it at the next evaluation, which may be hours away.
            mark_off(Path(self.out_dir))
        return True

    def begin(self, trained: int, evaluated: int) -> None:
        """Number the steps on from so many of each mode. smdebug's count is of the step before."""
        self.step = trained + evaluated - 1
        self.mode_steps = {
            MODES.TRAIN: trained - 1,
            MODES.EVAL: evaluated - 1,
            MODES.GLOBAL: self.step,
        }

    def begin_training(self) -> None:
        """What follows are steps of training, of which a resumed epoch may have none left."""
        self._has_trained = True

    def begin_evaluation(self) -> None:
        """What follows is an evaluation of its own, of the best epoch or of the test for instance.

        Where nothing was trained since another one, a number of the mode is left out: by that
        readers tell the two apart, for nothing else lies between their steps.
        """
        if not self._has_trained and self.mode_steps[MODES.EVAL] >= 0:
            self.mode_steps[MODES.EVAL] += 1
        self._has_trained = False

    def watch(self, network: nn.Module, called: nn.Module) -> None:
        """Watch a network that is trained by calling `called`: itself, or torch.compile's of it."""
        for name, module in network.named_modules():
            vars(module)["_module_name"] = name or type(module).__name__
        self._network = network
        # What is compiled calls none of its modules' hooks, but those of its wrapper.
        vars(called)["_module_name"] = type(network).__name__
        self._modules = tuple(network.modules()) if called is network else (called,)
        self.has_registered_module = True
        called.register_forward_pre_hook(self.forward_pre_hook)

    @_guarded
    def forward_pre_hook(self, module: nn.Module, inputs: Any) -> None:
        """A step begins: write the one before, and hook what this one saves."""
        self._detach()
        if self.writer is not None:
            self._close_writers()
        self._close_tb_writer()
        if not self.prepared_collections:
            self._prepare_collections()
        self._increment_step()
        due = self._get_collections_to_save_for_step()
        if due:
            self._initialize_writers()
        if due and self.writer is not None:
            self._due = (self.mode, frozenset(each.name for each in due))
            self._log_params(self._network)
            self._attach()
        if self.last_saved_step is not None and not self.exported_collections:
            self.export_collections()
            self.exported_collections = True

    def _attach(self) -> None:
        known = self._useful.get(self._due)
        self._useful[self._due] = set() if known is None else known
        for module in self._modules:
            if known is None or module in known:
                self._attached.append(module.register_forward_hook(self.forward_hook))
        if self.mode == MODES.EVAL or self._network is None:
            return
        prefix = type(self._network).__name__
        for name, parameter in self._network.named_parameters():
            saved = f"{self.GRADIENT_PREFIX}{prefix}_{name}"
            if parameter.requires_grad and self._is_due(saved):
                save = functools.partial(self._save_gradient, saved)
                handle = parameter.register_hook(save)  # type: ignore[no-untyped-call]
                self._attached.append(handle)

    def _detach(self) -> None:
        for handle in self._attached:
            handle.remove()
        self._attached.clear()
        self._due = None

    def _is_due(self, name: str) -> bool:
        due = self._get_collections_to_save_for_step()
        return not due.isdisjoint(self._get_collections_with_tensor(name))

    @_guarded
    def forward_hook(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """A module, or the loss, has been called: save of it what is due."""
        if self._due is None:
            self.blind = self.blind or not self.prepared_collections
            return
        name = str(module._module_name)
        written = self._written
        self._write_inputs(name, inputs)
        self._write_outputs(name, outputs)
        if name.rpartition(".")[2].startswith("relu") and isinstance(outputs, Tensor):
            self._save_activity(name, outputs)
        if self._written > written:
            self._useful[self._due].add(module)
        self._save_custom_tensors_post_step()
        self.last_saved_step = self.step

    @_guarded
    def _save_gradient(self, name: str, gradient: Tensor) -> None:
        self._save_for_tensor(name, gradient)

    def _save_activity(self, name: str, outputs: Tensor) -> None:
        """How often each channel of a ReLU is above zero: what a dead one shows, in few numbers."""
        numbered = f"{name}_activity_{self.written_tensor_name_for_step[name + '_activity']}"
        self.written_tensor_name_for_step[name + "_activity"] += 1
        if self._is_due(numbered):
            above = (outputs.detach()[:ACTIVITY_IMAGES] > 0).float()
            share = above.mean(dim=[0, *range(2, above.ndim)])
            self._save_for_tensor(numbered, share)

    def _log_params(self, module: nn.Module | None) -> None:
        if module is None:
            return
        super()._log_params(module)
        if self.mode != MODES.TRAIN or "updates" not in self._due[1]:
            return
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and parameter.ndim > 1:
                now = parameter.detach()
                before = self._before.get(name)
                if before is None:
                    self._before[name] = now.clone()
                    continue
                moved = torch.linalg.vector_norm(now - before)
                ratio = moved / (torch.linalg.vector_norm(before) + 1e-9)
                before.copy_(now)
                # Not by its whole name: smdebug takes all that holds "weight" for a weight.
                layer = f"{type(module).__name__}_{name}".replace(".weight", "")
                self._save_for_tensor(f"update/{layer}", ratio)

    def _write_for_tensor(self, *arguments: Any, **named: Any) -> None:
        self._written += 1
        super()._write_for_tensor(*arguments, **named)

    def _write_reductions(
        self, name: str, value: Any, save_collections: Iterable[Any], tensor_ref: Any = None
    ) -> None:
        tensor = torch.as_tensor(value)
        wanted = _reductions(save_collections) if tensor.numel() else []
        self._numbers += reduce(tensor, wanted)
        self._names += [self._get_reduction_tensor_name(name, *each) for each in wanted]

    def _close_writers(self) -> None:
        """Fetch all of the step's numbers from their device at once, and finish its file."""
        names, numbers = self._names, self._numbers
        self._names, self._numbers = [], []
        if self.writer is not None and numbers:
            self.writer.write_numbers(names, torch.stack(numbers).cpu().numpy(), *self._moment)
        super()._close_writers()

    def _initialize_writers(self, only_initialize_if_missing: bool = False) -> None:
        directory = next(p for p in (Path(self.out_dir), *Path(self.out_dir).parents) if p.exists())
        if shutil.disk_usage(directory).free < RESERVED_BYTES:
            raise OSError(f"less than {RESERVED_BYTES // 2**20} MiB are free at {directory}")
        super()._initialize_writers(only_initialize_if_missing)
        self._moment = (self.mode, self.mode_steps[self.mode])

    @staticmethod
    def _make_numpy_array(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dtype == torch.bfloat16:  # NumPy has none
            value = value.float()
        return smdebug.pytorch.Hook._make_numpy_array(value)


def _reductions(collections: Iterable[Any]) -> list[Reduction]:
    """Everything that some of the collections want, once, in smdebug's order."""
    wanted: dict[Reduction, None] = {}
    for each in collections:
        if each.name not in SCALAR_COLLECTIONS:
            config = each.reduction_config
            plain = (*config.reductions, *config.norms)
            absolute = (*config.abs_reductions, *config.abs_norms)
            wanted |= dict.fromkeys([(name, False) for name in plain])
            wanted |= dict.fromkeys([(name, True) for name in absolute])
    return list(wanted)
