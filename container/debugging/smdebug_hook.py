"""Kennel's hook on smdebug's. Imports smdebug, as no other room does."""

import atexit
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from container.debugging.forgiving_hook import AGENT, MODES, ForgivingHook
from container.debugging.hook import END_FILE, Hook, drop_steps, mark_off
from container.progress import say


class SmdebugHook(Hook):
    """A hook that saves what a configuration asks for."""

    def __init__(self, configuration: dict[str, Any], directory: Path) -> None:
        # It would walk the checkpoints at every step and add a file of its own to them.
        os.environ["CHECKPOINT_CONFIG_FILE_PATH"] = os.devnull + "/none"
        self.directory = directory
        asked = configuration.get("CollectionConfigurations") or ()
        self.collections = ("losses", *(str(each["CollectionName"]) for each in asked))
        AGENT.disable_smdebug = False
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(configuration, file)
            file.flush()
            self._hook = ForgivingHook.create_from_json_file(file.name)
        # It would close itself a second time at exit, with a traceback if its disk is full.
        atexit.unregister(self._hook._cleanup)
        if AGENT.disable_smdebug:
            raise self._hook.failure or RuntimeError("unknown error")

    def seconds(self) -> float:
        """The time that smdebug has taken so far."""
        return float(self._hook.seconds)

    def register(
        self, network: nn.Module, criterion: nn.Module, *, trained: int = 0, evaluated: int = 0
    ) -> None:
        """Watch a network and its loss; see Hook."""
        bare = _without_wrappers(network)
        if getattr(bare, "_compiled_call_impl", None) is not None:
            self._fail(
                "Nothing is saved of a network that is compiled in place, by network.compile(): "
                "train what torch.compile(network) returns."
            )
            return
        compiled = hasattr(network, "_orig_mod")
        if compiled:
            say("The network is compiled: smdebug does not see its activations, but all else.")
        if compiled or not any(isinstance(module, nn.ReLU) for module in bare.modules()):
            self.collections = tuple(
                name for name in self.collections if not name.startswith(("relu", "batchnorm"))
            )
        drop_steps(Path(self._hook.out_dir), trained + evaluated)
        self._hook.begin(trained, evaluated)
        self._hook.watch(bare, network if compiled else bare)
        self._hook.register_loss(criterion)

    def training(self) -> None:
        """The steps from here on are training steps."""
        self._set_mode(MODES.TRAIN)
        self._hook.begin_training()

    def evaluation(self) -> None:
        """The steps from here on are evaluation steps."""
        self._set_mode(MODES.EVAL)
        self._hook.begin_evaluation()

    def close(self) -> None:
        """Write what is left, and mark the end."""
        self._report_failure()
        if self._hook.blind:
            self._fail("Nothing is saved: the network was compiled after it was registered.")
        try:
            self._hook.close()
        except Exception as error:  # the disk may still be full
            self._fail(f"smdebug could not finish its files ({type(error).__name__}: {error}).")
        # smdebug leaves this to SageMaker's service in its jobs; local readers wait for it.
        end = Path(self._hook.out_dir) / END_FILE
        if end.parent.is_dir() and not self.failure:
            end.touch()

    def _set_mode(self, mode: object) -> None:
        self._report_failure()
        self._hook.set_mode(mode)

    def _report_failure(self) -> None:
        if AGENT.disable_smdebug:
            error = self._hook.failure
            self._fail(
                "smdebug failed and has switched itself off; training goes on without it "
                f"({type(error).__name__}: {error})."
            )

    def _fail(self, sentence: str) -> None:
        if self.failure is None:
            self.failure = sentence
            mark_off(Path(self._hook.out_dir))
            say(sentence)


def _without_wrappers(network: nn.Module) -> nn.Module:
    """The network that torch.compile and DistributedDataParallel are around: its names are short,
    and its parameters' hooks are called all the same.
    """
    while True:
        if isinstance(network, DistributedDataParallel):
            network = network.module
        elif hasattr(network, "_orig_mod"):
            network = network._orig_mod  # type: ignore[assignment]
        else:
            return network
