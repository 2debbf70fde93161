"""Passes over images: each trains on every batch once, or evaluates the network."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from container.allocation import keep_freed_memory
from container.debugging.observer import Observer
from container.hyperparameters import Hyperparameters
from container.model import train_trainable
from container.progress import track
from container.stopping import Stopped, StopSignal
from container.training.averaging import WeightAverage
from container.training.checkpoint import Position
from container.training.mixup import mix
from container.training.optimization import build_optimizer, learning_rate
from container.training.processor import Processor
from container.training.rate_search import STEPS, RateSearch, search
from container.training.source import Batch, Source, steps_per_epoch
from container.training.world import World


@dataclass(frozen=True)
class Score:
    """What the network answered on a number of images, and the mean loss."""

    loss: float
    scores: NDArray[np.float32]
    """Probabilities (N, classes)."""
    truth: NDArray[np.int64]
    """The number of each image's class, (N,)."""

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float((self.scores.argmax(axis=1) == self.truth).mean())


class Passes:
    """One network, and what passes over images need beside it."""

    def __init__(
        self,
        network: nn.Module,
        hyperparameters: Hyperparameters,
        criterion: nn.Module,
        processor: Processor,
        observer: Observer,
        stop: StopSignal,
        classes: int,
        world: World,
    ) -> None:
        self.network = network
        self.classes = classes
        self.hyperparameters = hyperparameters
        self.processor = processor
        self.stop = stop
        self.world = world
        # Before the optimizer and the hooks look at the network's modules.
        self._replica = world.distribute(network, processor.device)
        weights = criterion.weight
        self._class_weights = weights.clone() if isinstance(weights, Tensor) else None
        self.criterion = criterion.to(processor.device)
        self.optimizer = build_optimizer(network, hyperparameters)
        self.observer = observer
        if processor.device.type == "cpu":
            keep_freed_memory()  # not before: decoding asks for other sizes each time

    def train(
        self,
        images: Source,
        position: Position,
        *,
        average: WeightAverage | None,
        is_due: Callable[[], bool],
        save: Callable[[Position], None],
    ) -> None:
        """Train on every batch of the epoch that is still to come, and advance the position.

        Args:
            average: follows the weights step by step.
            is_due: whether it is time to save a checkpoint within the epoch.
            save: saves one; all processes call it together.

        Raises:
            Stopped: the job was asked to stop; the position is that of the last whole step.
        """
        options = self.hyperparameters
        steps = steps_per_epoch(len(images), options.batch_size)
        self.observer.training()
        train_trainable(self.network)
        sums = _Sums(self.processor.device)
        mixed = options.mixup > 0
        clock = self.observer.clock
        batches = images.training_batches(
            batch_size=options.batch_size,
            seed=options.seed,
            epoch=position.epoch,
            first_step=position.step,
        )
        name = f"Epoch {position.epoch + 1}"
        for views, labels in track(batches, total=steps - position.step, description=name):
            clock.mark("data_wait")
            share, stopped, due = self._meet(self._weight(labels, mixed=mixed), due=is_due())
            if stopped or due:
                self._count(sums, position)
            if stopped:
                raise Stopped
            if due:
                save(position)
                clock.mark("checkpoint")
            done = position.epoch * steps + position.step
            rate = learning_rate(position.rate, done, options.epochs * steps, options)
            loss, logits = self._step(images, views, labels, rate, share, mixing=done)
            if average:
                average.update(done)
            sums.add(loss, logits, labels, self._weight(labels, mixed=mixed))
            position.step += 1
            self.observer.stepped(rate)
        self._count(sums, position)

    def search_rate(self, train: Source) -> RateSearch:
        """Look for a learning rate, and leave the network as it was. Raises Stopped, UserError."""
        options = self.hyperparameters
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        train_trainable(self.network)

        def batches() -> Iterator[Batch]:
            for epoch in itertools.count(options.epochs):  # none of those that are trained
                for batch in train.training_batches(
                    batch_size=options.batch_size, seed=options.seed, epoch=epoch, first_step=0
                ):
                    if self.world.any(self.stop.requested):
                        raise Stopped
                    yield batch

        def step(views: Tensor, labels: Tensor, rate: float) -> float:
            share, _, _ = self._meet(self._weight(labels, mixed=False))
            loss, _ = self._step(train, views, labels, rate, share)
            # The same in every process, or they would choose different rates.
            return self.world.total(float(loss) * share)[0] / self.world.size

        try:
            shown = track(batches(), total=STEPS, description="Looking for a learning rate")
            return search(step, shown)
        finally:
            self.network.load_state_dict(before)
            self.optimizer.state.clear()

    @torch.no_grad()
    def evaluate(self, images: Source, split: str, description: str) -> Score:
        """The answers to the views that serving sees, and their loss. Raises Stopped."""
        self.observer.evaluation()
        self.network.eval()
        loss_sum, weight_sum = 0.0, 0.0
        answers: list[tuple[Tensor, Tensor]] = []
        size = self.hyperparameters.test_batch_size
        batches = images.evaluation_batches(size)
        steps = steps_per_epoch(len(images), size * self.world.size)
        for views, labels in track(batches, total=steps, description=description):
            with self.processor.autocast():
                logits = self.network(images.inputs(views.to(self.processor.device)))
            logits, targets = logits.float(), labels.to(self.processor.device)
            weight = self._weight(labels, mixed=False)
            loss_sum += float(self.criterion(logits, targets)) * weight
            weight_sum += weight
            answers.append((logits.cpu(), labels))
            if self.stop.requested:
                break
        if self.world.any(self.stop.requested):
            raise Stopped
        loss_sum, weight_sum = self.world.total(loss_sum, weight_sum)
        logits, labels = self._of_all(answers)
        self.observer.evaluations.add(split, logits, labels)
        self.observer.clock.mark("evaluation")
        return Score(loss_sum / weight_sum, logits.softmax(1).numpy(), labels.numpy())

    def _weight(self, labels: Tensor, *, mixed: bool) -> float:
        """What the mean loss of these labels' images is divided by."""
        # Labels that are mixed are shares of classes, whose loss is divided by their number.
        weights = None if mixed else self._class_weights
        return float(len(labels) if weights is None else weights[labels].sum())

    def _meet(self, weight: float, *, due: bool = False) -> tuple[float, bool, bool]:
        """Before a step, what the processes need to know of each other.

        Args:
            weight: what the mean loss of this process's images is divided by.
            due: whether this process finds that a checkpoint is due.

        Returns:
            this process's share of the whole batch's loss, times the number of processes; whether
            one is asked to stop; whether a checkpoint is due.
        """
        total, stopped, due_anywhere = self.world.total(weight, self.stop.requested, due)
        return weight * self.world.size / total, stopped > 0, due_anywhere > 0

    def _count(self, sums: "_Sums", position: Position) -> None:
        """Add what all processes have summed to the position, and begin to sum anew."""
        loss, correct, seen = self.world.total(*sums.take())
        position.loss_sum += loss
        position.correct += round(correct)
        position.seen += round(seen)

    def _step(
        self,
        images: Source,
        views: Tensor,
        labels: Tensor,
        rate: float,
        share: float,
        mixing: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Train on this process's share of a batch; its mean loss, and its logits.

        Where images are mixed, `mixing` is the number of the step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        clock = self.observer.clock
        device = self.processor.device
        views, targets = views.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        clock.mark("to_device")
        inputs = images.inputs(views)
        alpha = self.hyperparameters.mixup
        if alpha and mixing is not None:
            seed = (self.hyperparameters.seed, mixing)
            inputs, targets = mix(inputs, targets, classes=self.classes, alpha=alpha, seed=seed)
        with self.processor.autocast():
            logits = self._replica(inputs)
        # smdebug cannot save bfloat16, and the loss wants the precision.
        loss = self.criterion(logits.float(), targets)
        clock.mark("forward")
        self.optimizer.zero_grad(set_to_none=True)
        # The replicas' gradients are averaged; each is to count as much as it has images.
        (loss * share if self.world.size > 1 else loss).backward()
        clock.mark("backward")
        self.optimizer.step()
        clock.mark("optimizer")
        return loss.detach(), logits.detach()

    def _of_all(self, answers: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The scores of the images that all processes have evaluated, and their labels."""
        rows = {}
        if answers:
            rows["logits"] = torch.cat([logits for logits, _ in answers])
            rows["labels"] = torch.cat([labels for _, labels in answers])
        rows = self.world.gather_rows(rows)
        return rows["logits"], rows["labels"]


class _Sums:
    """Sums over the images of this process, which stay on its device until they are taken."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._clear()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, weight: float) -> None:
        """Count a batch, of which `loss` is the sum divided by `weight`."""
        if not weight:
            return  # of a batch that has no images for this process; zero over zero is no number
        self._loss += loss * weight
        self._correct += (logits.argmax(1) == labels.to(logits.device)).sum()
        self._seen += len(labels)

    def take(self) -> tuple[float, float, float]:
        """Loss, right answers and images since the last time."""
        taken = float(self._loss), float(self._correct), float(self._seen)
        self._clear()
        return taken

    def _clear(self) -> None:
        self._loss = torch.zeros((), device=self._device)
        self._correct = torch.zeros((), dtype=torch.int64, device=self._device)
        self._seen = 0
