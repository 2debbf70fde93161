"""smdebug directories whose every number a test chooses, written by Kennel's own writer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from container.debugging.tensors import EVAL, TRAIN, Tensors

LOSS = "CrossEntropyLoss_output_0"


class Saved:
    """A directory that grows by one forward pass at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._passes = 0
        self._steps: dict[str, int] = {}

    def add(
        self, tensors: Mapping[str, Any], mode: str = TRAIN, seconds: float | None = None
    ) -> None:
        """Save tensors at the next step of a mode; nothing of a tensor where there are none."""
        # smdebug warns when it is imported, which tests that use it do not mind.
        from smdebug.core.modes import ModeKeys

        from container.debugging.step_file import StepFile

        step = self._steps.get(mode, 0)
        file = StepFile(self.directory, "worker_0", self._passes)
        for name, value in tensors.items():
            array = np.asarray(value)
            wide = array.astype(np.float64) if array.dtype.kind == "f" else array
            file.write_tensor(wide, name, ModeKeys[mode], step, seconds)
        file.close()
        self._steps[mode] = step + 1
        self._passes += 1

    def losses(self, values: Sequence[float], mode: str = TRAIN) -> "Saved":
        """A loss for each of so many steps."""
        for value in values:
            self.add({LOSS: [value]}, mode)
        return self

    def rounds(self, *each: tuple[Sequence[float], Sequence[float]]) -> "Saved":
        """Training losses, and the validation losses after them."""
        for train, validation in each:
            self.losses(train).losses(validation, EVAL)
        return self

    def ended(self) -> "Saved":
        """The training is over."""
        (self.directory / "training_job_end.ts").touch()
        return self

    @property
    def tensors(self) -> Tensors:
        """All of it, as rules read it."""
        return Tensors(self.directory)


def reduced(name: str, **measures: float) -> dict[str, Any]:
    """A tensor of which only reductions are saved, such as `abs_mean=0.1`."""
    return {f"smdebug/reductions/{measure}/{name}": value for measure, value in measures.items()}
