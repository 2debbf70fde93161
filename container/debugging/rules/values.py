"""Rules on the values of any tensor: not a number, all zero, unchanging, too wide or too narrow."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from container.debugging.records import Array
from container.debugging.rules.gradients import trainable_weights
from container.debugging.rules.rule import Finding, MissingError, Rule, comes_first, parameter
from container.debugging.tensors import EVAL, GLOBAL, TRAIN, Tensors

# Of a single value smdebug saves a standard deviation that is not a number.
_TELLING = ("min", "max", "mean", "abs_mean", "abs_max", "l1_norm", "l2_norm")


def _chosen(tensors: Tensors, collections: str, regex: str) -> list[str]:
    """The tensors that a rule is pointed at. Raises MissingError if there are none."""
    names = tensors.names(regex) if regex else []
    for collection in filter(None, collections.split(",")):
        names += tensors.collection(collection.strip())
    if not names:
        raise MissingError(f"no tensor of {collections or regex or 'any name'} was saved")
    return list(dict.fromkeys(names))


def _moments(tensors: Tensors, names: list[str]) -> Iterator[tuple[str, str, int]]:
    """Every name, mode and step, the earliest steps of each mode first."""
    for mode in (TRAIN, GLOBAL, EVAL):
        pairs = [(step, name) for name in names for step in tensors.steps(name, mode)]
        for step, name in sorted(pairs, key=lambda pair: pair[0]):
            yield name, mode, step


@dataclass(frozen=True)
class ExplodingTensor(Rule):
    """A tensor holds infinities, or values that are no numbers."""

    illness: ClassVar = "Numbers have grown beyond what can be computed with: training is lost."
    advice: ClassVar = (
        "Lower the learning rate, by a factor of ten at first. If it began in the first steps, "
        "check the images; under bfloat16 try precision=float32."
    )
    collections: ClassVar = ("losses",)

    collection_names: str = parameter("", "collections to look at, with commas; unset: all tensors")
    tensor_regex: str = parameter("", "tensors to look at")
    only_nan: bool = parameter(False, "do not mind infinities")

    def check(self, tensors: Tensors) -> Finding | None:
        """Look at reductions where there are any, else at every value."""
        everything = "" if self.collection_names or self.tensor_regex else "."
        names = _chosen(tensors, self.collection_names, self.tensor_regex or everything)
        for name, mode, step in _moments(tensors, names):
            saved = tensors.saved_measures(name, mode, step)
            if saved:
                values = np.array([saved[measure] for measure in _TELLING if measure in saved])
                wrong = np.isnan(values) if self.only_nan else ~np.isfinite(values)
                exploded = bool(wrong.any())
            else:
                share = tensors.at(name, "nan" if self.only_nan else "nonfinite", mode, step)
                exploded = bool(share)
            if exploded:
                return Finding(step, {"tensor": name, "mode": mode})
        return None


@dataclass(frozen=True)
class AllZero(Rule):
    """All, or too many, values of a tensor are zero."""

    illness: ClassVar = "A tensor is zero where it should not be, so what it feeds does not learn."
    advice: ClassVar = (
        "Look for a layer that is switched off: dead ReLUs, weights initialised with zeros, a "
        "learning rate of zero, or a loss that does not depend on the layer."
    )
    collections: ClassVar = ("gradients",)

    collection_names: str = parameter("gradients,weights", "collections to look at, with commas")
    tensor_regex: str = parameter("", "tensors to look at")
    threshold: float = parameter(100.0, "percent of zeros from which on it counts")

    def check(self, tensors: Tensors) -> Finding | None:
        """Reductions can tell only whether all values are zero."""
        names = _chosen(tensors, self.collection_names, self.tensor_regex)
        for name, mode, step in _moments(tensors, names):
            largest = tensors.saved_measures(name, mode, step).get("abs_max")
            if largest is None:
                zeros = tensors.at(name, "zeros", mode, step)
            else:
                zeros = float(largest == 0)
            if zeros is not None and 100 * zeros >= self.threshold:
                return Finding(
                    step, {"tensor": name, "mode": mode, "zeros_percent": round(100 * zeros, 2)}
                )
        return None


@dataclass(frozen=True)
class UnchangedTensor(Rule):
    """A tensor that should change does not."""

    illness: ClassVar = "A weight that should learn stays as it is."
    advice: ClassVar = (
        "Check the learning rate, that the optimizer holds the layer's parameters, and that the "
        "loss depends on the layer."
    )
    collections: ClassVar = ("weights", "gradients")

    collection_names: str = parameter("", "collections to look at; unset: the weights that learn")
    tensor_regex: str = parameter("", "tensors to look at")
    num_steps: int = parameter(3, "saved steps in a row that are compared")
    rtol: float = parameter(1e-5, "relative tolerance, as in numpy.allclose")
    atol: float = parameter(1e-8, "absolute tolerance, as in numpy.allclose")
    equal_nan: bool = parameter(False, "whether two that are no numbers are equal")

    def check(self, tensors: Tensors) -> Finding | None:
        """Compare whole tensors where they were saved, else all their reductions.

        At the end of a schedule that goes to zero every weight stands, the larger ones to the last
        bit. So what was learned once may; tensors that were chosen are held to each stretch.
        """
        chosen = bool(self.collection_names or self.tensor_regex)
        if chosen:
            names = _chosen(tensors, self.collection_names, self.tensor_regex)
        else:
            names = trainable_weights(tensors)
        if not names:
            raise MissingError("no weights were saved")
        found: Finding | None = None
        for name in names:
            mode = tensors.mode_of(name)
            step = self._first_unchanged(tensors, name, mode, from_first=not chosen)
            if step is not None and comes_first(step, found):
                found = Finding(step, {"tensor": name, "mode": mode, "saved_steps": self.num_steps})
        return found

    def _first_unchanged(
        self, tensors: Tensors, name: str, mode: str, *, from_first: bool
    ) -> int | None:
        first: Array | None = None
        before: Array | None = None
        same = 1
        for step in tensors.steps(name, mode):
            saved = tensors.saved_measures(name, mode, step)
            now = np.array(list(saved.values())) if saved else tensors.raw(name, mode, step)
            if now is None:
                continue
            first = now if first is None else first
            if before is not None and self._equal(before, now):
                same += 1
                if same >= self.num_steps and (not from_first or self._equal(first, now)):
                    return step
            else:
                same = 1
            before = now
        return None

    def _equal(self, before: Array, now: Array) -> bool:
        return before.shape == now.shape and np.allclose(
            before, now, self.rtol, self.atol, equal_nan=self.equal_nan
        )


@dataclass(frozen=True)
class TensorVariance(Rule):
    """A tensor's values lie too close together, or too far apart."""

    illness: ClassVar = "The values of a tensor lie too close together, or too far apart."
    advice: ClassVar = "Look at the layer's initialisation, its inputs and the learning rate."
    collections: ClassVar = ("weights",)
    by_default: ClassVar = False

    collection_names: str = parameter("", "collections to look at, with commas")
    tensor_regex: str = parameter("", "tensors to look at; one of the two must be given")
    max_threshold: float = parameter(float("inf"), "a variance above this fires; AWS: none")
    min_threshold: float = parameter(0.0, "a variance below this fires; AWS: none")

    def check(self, tensors: Tensors) -> Finding | None:
        """Look at every variance. Without thresholds there is nothing to find."""
        if self.max_threshold == float("inf") and self.min_threshold == 0:
            raise MissingError("give max_threshold or min_threshold")
        names = _chosen(tensors, self.collection_names, self.tensor_regex)
        for name, mode, step in _moments(tensors, names):
            variance = tensors.at(name, "variance", mode, step)
            if variance is not None and not self.min_threshold <= variance <= self.max_threshold:
                return Finding(step, {"tensor": name, "mode": mode, "variance": variance})
        return None
