"""Rules on what goes in, and on whether anything happens: input images, stalled training."""

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from container.debugging.rules.rule import Finding, MissingError, Rule, parameter
from container.debugging.tensors import Tensors


@dataclass(frozen=True)
class CheckInputImages(Rule):
    """The images that reach the network are not centred on zero."""

    illness: ClassVar = "The network's input is not centred: it was not normalised, or is unusual."
    advice: ClassVar = (
        "If the images were normalised as they should be, they are darker or brighter than "
        "ImageNet's, which training from scratch copes with; else put the normalisation right."
    )
    collections: ClassVar = ("inputs",)
    by_default: ClassVar = False

    threshold_mean: float = parameter(0.2, "a mean further than this from zero fires")
    threshold_samples: int = parameter(500, "images that must have been seen")
    regex: str = parameter(r"ResNet_input_0|.*(conv|embed)\w*0?_input_0", "the input images")
    channel: int = parameter(1, "the axis of the channels in whole tensors")

    def check(self, tensors: Tensors) -> Finding | None:
        """Each channel's mean where whole inputs were saved, else the mean of all."""
        names = tensors.names(self.regex)
        if not names:
            raise MissingError("no input images were saved")
        name, mode = names[0], tensors.mode_of(names[0])
        sums: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
        samples = 0
        for step in tensors.steps(name, mode):
            value = tensors.raw(name, mode, step)
            if value is not None and value.ndim > self.channel:
                axes = tuple(axis for axis in range(value.ndim) if axis != self.channel)
                sums.append(value.mean(axis=axes).astype(np.float64))
                samples += len(value)
            else:
                mean = tensors.at(name, "mean", mode, step)
                if mean is None:
                    continue
                sums.append(np.array([mean]))
                # A reduction does not tell how many images it is of: at least the batch's one.
                samples += self._batch(tensors, mode, step)
            means = np.mean(sums, axis=0)
            worst = float(means[np.abs(means).argmax()])
            if samples >= self.threshold_samples and abs(worst) > self.threshold_mean:
                return Finding(step, {"tensor": name, "mean": worst, "samples": samples})
        return None

    @staticmethod
    def _batch(tensors: Tensors, mode: str, step: int) -> int:
        labels = tensors.names(r"labels|Loss_input_1", mode)
        value = tensors.raw(labels[0], mode, step) if labels else None
        return 1 if value is None else len(value)


@dataclass(frozen=True)
class StalledTraining(Rule):
    """No tensor is written for a long time."""

    illness: ClassVar = "Training has stood still for a long time."
    advice: ClassVar = (
        "Look at the log's last line and at the disk's free space; on several machines check that "
        "all of them are still there. AWS calls the rule StalledTrainingRule."
    )
    collections: ClassVar = ("losses",)

    threshold: float = parameter(1800.0, "seconds without a new tensor")
    live: bool = parameter(False, "Kennel's: also count the time since the newest tensor")

    def check(self, tensors: Tensors) -> Finding | None:
        """Look at the pauses between tensors."""
        if tensors.last_seconds is None:
            raise MissingError("no tensors were saved")
        for step, seconds in tensors.pauses:
            if seconds > self.threshold:
                return Finding(step, {"seconds": round(seconds, 1)})
        # After a resume the newest tensor may be the earlier run's, and the pause between the two.
        silent = time.time() - max(tensors.last_seconds, tensors.since)
        over = tensors.ended or tensors.hook_off
        if self.live and not over and silent > self.threshold:
            last = tensors.pauses[-1][0] if tensors.pauses else 0
            return Finding(last, {"seconds": round(silent, 1)})
        return None
