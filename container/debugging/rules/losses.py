"""Rules on the loss: it does not fall, it parts from the validation's, it is done falling."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from container.debugging.records import Array
from container.debugging.rules.rule import Finding, MissingError, Rule, parameter
from container.debugging.tensors import EVAL, GLOBAL, TRAIN, Point, Tensors


def loss_points(tensors: Tensors, mode: str) -> list[Point]:
    """The loss at every step of a mode at which it was saved."""
    names = tensors.collection("losses", mode)
    return tensors.measure(names[0], "mean", mode) if names else []


@dataclass(frozen=True)
class Round:
    """The losses of a stretch of training, and of the evaluation that ends it."""

    step: int
    train: tuple[float, ...]
    validation: tuple[float, ...]


def rounds(tensors: Tensors) -> list[Round]:
    """Every finished evaluation with the training before it, in order. Raises MissingError.

    What is evaluated after training, such as the best epoch again or the test, is left out.
    """
    marked: list[tuple[int, str, Point]] = []
    for mode in (TRAIN, EVAL):
        names = tensors.collection("losses", mode)
        if not names:
            raise MissingError(f"no {mode} losses were saved")
        for point in tensors.measure(names[0], "mean", mode):
            marked.append((tensors.global_step(names[0], mode, point.step), mode, point))
    found: list[Round] = []
    train: list[float] = []
    validation: list[float] = []
    step = others = 0
    for at, mode, point in sorted(marked, key=lambda entry: entry[0]):
        if mode == TRAIN:
            if validation:
                found.append(Round(step, tuple(train), tuple(validation)))
                train, validation = [], []
            train.append(point.value)
            step = point.step
        # Steps of other modes before it: they are fewer only where Kennel's hook has left out a
        # number of this mode, since nothing was trained between two evaluations.
        elif at - point.step >= others:
            others = at - point.step
            validation.append(point.value)
    if tensors.ended and train and validation:
        found.append(Round(step, tuple(train), tuple(validation)))
    return [each for each in found if each.train]


@dataclass(frozen=True)
class LossNotDecreasing(Rule):
    """The loss stays where it is, or rises."""

    illness: ClassVar = "The loss is not falling."
    advice: ClassVar = (
        "Lower the learning rate if the loss jumps, raise it if the loss stands still; check that "
        "the labels belong to the images, and that the layers to be trained are trainable."
    )
    collections: ClassVar = ("losses",)

    num_steps: int = parameter(10, "steps between the losses compared")
    diff_percent: float = parameter(0.1, "by how many percent the loss must fall")
    increase_threshold_percent: float = parameter(5.0, "rises above this are named as such")
    mode: str = parameter("", "TRAIN, EVAL or GLOBAL; unset: TRAIN, else GLOBAL, else EVAL")
    learned_share: float = parameter(0.5, "Kennel's: a loss below this share of the first is fine")

    def check(self, tensors: Tensors) -> Finding | None:
        """Compare the means of two windows, so that one hard batch says nothing."""
        modes = (self.mode,) if self.mode else (TRAIN, GLOBAL, EVAL)
        points = next((found for mode in modes if (found := loss_points(tensors, mode))), [])
        if not points:
            raise MissingError("no losses were saved")
        spacing = max(1, points[min(1, len(points) - 1)].step - points[0].step)
        width = max(5, -(-self.num_steps // spacing))
        values = np.array([point.value for point in points])
        # A learning rate far too high has thrown up the loss by its third step.
        first = float(min(values[0], values[:3].mean()))
        for end in range(2 * width, len(values) + 1):
            before, now = values[end - 2 * width : end - width], values[end - width : end]
            fall = 100 * (before.mean() - now.mean()) / max(abs(float(before.mean())), 1e-12)
            # A fall that is smaller than the noise of both windows may still be one.
            noise = 100 * 2 * _error(before, now) / max(abs(float(before.mean())), 1e-12)
            allowed = 1 + self.increase_threshold_percent / 100
            rising = (
                -fall > max(self.increase_threshold_percent, noise)
                # Thrown up at the start and falling since: what was lost is not won back.
                or now.mean() - 2 * now.std() / width**0.5 > allowed * values[0]
            )
            flat = fall + noise < self.diff_percent or (fall < self.diff_percent and noise < 5)
            if (rising or flat) and now.mean() > self.learned_share * first:
                return Finding(
                    points[end - 1].step,
                    {
                        "loss_before": round(float(before.mean()), 6),
                        "loss": round(float(now.mean()), 6),
                        "fall_percent": round(float(fall), 3),
                        "rising": bool(rising),
                    },
                )
        return None


@dataclass(frozen=True)
class Overfit(Rule):
    """The validation loss is well above the training loss."""

    illness: ClassVar = "The network knows its training images better than new ones."
    advice: ClassVar = (
        "More images help most; else stronger augmentation (flip, mixup; a lower crop-scale where "
        "there are random crops: with trainable=all, views=0 or more than two views), fewer "
        "epochs, more weight-decay, a smaller network, or, where it is trained, a frozen backbone "
        "(trainable=head)."
    )
    collections: ClassVar = ("losses",)

    start_step: int = parameter(0, "steps before this one are not looked at")
    patience: int = parameter(1, "evaluations in a row that must show it")
    ratio_threshold: float = parameter(0.1, "validation loss over training loss, minus one")
    learned_share: float = parameter(0.75, "Kennel's: what has learned less cannot overfit yet")
    improvement: float = parameter(0.05, "Kennel's: a validation loss that falls so much is fine")

    def check(self, tensors: Tensors) -> Finding | None:
        """Compare each evaluation with the training before it.

        Early in a training from scratch the normalisation's statistics lag behind the weights, and
        the validation loss is many times the training loss; it then falls from look to look. So the
        first evaluation is never judged.
        """
        every = rounds(tensors)
        first = every[0].train[0] if every else 0.0
        shown, before = 0, float("inf")
        for each in every:
            train, validation = np.array(each.train), np.array(each.validation)
            falling = validation.mean() < (1 - self.improvement) * before
            before = float(validation.mean())
            if each.step < self.start_step or falling or train.mean() > self.learned_share * first:
                shown = 0
                continue
            ratio = float((validation.mean() - train.mean()) / max(train.mean(), 1e-12))
            clear = validation.mean() - train.mean() > 2 * _error(train, validation)
            shown = shown + 1 if ratio > self.ratio_threshold and clear else 0
            if shown >= self.patience:
                return Finding(
                    each.step,
                    {
                        "train_loss": round(float(train.mean()), 6),
                        "validation_loss": round(float(validation.mean()), 6),
                        "ratio": round(ratio, 4),
                    },
                )
        return None


@dataclass(frozen=True)
class Overtraining(Rule):
    """Training goes on though nothing improves any more."""

    illness: ClassVar = "Training goes on though the loss has stopped improving."
    advice: ClassVar = (
        "Use fewer epochs; the last improvement is at the step named in the evidence."
    )
    collections: ClassVar = ("losses",)

    patience_train: int = parameter(5, "evaluations for which the training loss may stand still")
    patience_validation: int = parameter(10, "the same of the validation loss")
    delta: float = parameter(0.01, "what counts as an improvement")

    def check(self, tensors: Tensors) -> Finding | None:
        """Count the evaluations since the last improvement of each loss."""
        every = rounds(tensors)
        limits = {"train": self.patience_train, "validation": self.patience_validation}
        for kind, patience in limits.items():
            best, best_step, waiting = float("inf"), 0, 0
            for index, each in enumerate(every):
                loss = float(np.mean(getattr(each, kind)))
                waiting += 1
                if loss < best - self.delta:
                    best, best_step, waiting = loss, each.step, 0
                if waiting >= patience and self._stands(every[: index + 1], kind, patience):
                    return Finding(
                        each.step,
                        {"loss": kind, "best": round(best, 6), "last_improvement": best_step},
                    )
        return None

    def _stands(self, every: list[Round], kind: str, patience: int) -> bool:
        """Whether the mean over the patience is no better than before it: a lucky batch is not."""
        means = [
            np.mean([loss for each in part for loss in getattr(each, kind)])
            for part in (every[-2 * patience : -patience], every[-patience:])
            if part
        ]
        return len(means) < 2 or bool(means[1] > means[0] - self.delta)


def _error(first: Array, second: Array) -> float:
    """The standard error of the difference of two means; infinite where it cannot be known."""
    if min(len(first), len(second)) < 2:
        samples = first if len(first) > len(second) else second
        return float(np.std(samples, ddof=1)) if len(samples) > 1 else float("inf")
    return float(np.sqrt(np.var(first, ddof=1) / len(first) + np.var(second, ddof=1) / len(second)))
