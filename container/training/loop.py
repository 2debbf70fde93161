"""The training loop: epochs of steps, an evaluation after each, a checkpoint in between."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from container import metrics
from container.debugging.observer import Observer
from container.hyperparameters import Hyperparameters
from container.progress import say, track
from container.training.checkpoint import Checkpoints, Position
from container.training.history import History
from container.training.source import Source, steps_per_epoch
from container.training.stopping import Stopped, StopSignal

WARM_UP_SHARE = 0.05


@dataclass(frozen=True)
class Processor:
    """Where the network runs, and in which arithmetic."""

    device: torch.device
    bfloat16: bool

    @classmethod
    def choose(cls, precision: str) -> "Processor":
        """A GPU if there is one; bfloat16 where asked for, or where the processor has it."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if precision == "auto":
            native = (
                torch.cuda.is_bf16_supported(including_emulation=False)
                if device.type == "cuda"
                else torch.cpu.get_capabilities().get("avx512_bf16", False)
            )
            return cls(device, bool(native))
        return cls(device, precision == "bfloat16")

    def autocast(self) -> torch.autocast:
        """The context in which the forward pass runs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def __str__(self) -> str:
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"CPU with {torch.get_num_threads()} threads"
        )
        return f"{name}, {'bfloat16' if self.bfloat16 else 'float32'}"


@dataclass(frozen=True)
class Score:
    """Mean loss and accuracy over a number of images."""

    loss: float
    accuracy: float


class Training:
    """One network in training: what does not change from step to step."""

    def __init__(
        self,
        network: nn.Module,
        hyperparameters: Hyperparameters,
        processor: Processor,
        observer: Observer,
        stop: StopSignal,
    ) -> None:
        self.network = network
        self.hyperparameters = hyperparameters
        self.processor = processor
        self.stop = stop
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = build_optimizer(network, hyperparameters)
        self.observer = observer
        observer.register(network, self.criterion)

    def fit(
        self,
        train: Source,
        validation: Source,
        checkpoints: Checkpoints,
        history: History,
    ) -> None:
        """Train for all epochs, from the newest checkpoint if there is one.

        After each epoch the metrics are printed and added to the history.

        Raises:
            Stopped: the job was asked to stop; a checkpoint is saved.
        """
        position = checkpoints.restore(self.network, self.optimizer)
        history.resume(position.history)
        for epoch in range(position.epoch, self.hyperparameters.epochs):
            try:
                self._train_epoch(train, position)
                score = self.evaluate(validation, f"Epoch {epoch + 1} validation")
            except Stopped:
                checkpoints.write(self.network, self.optimizer, position)
                raise
            values = {
                metrics.TRAIN_LOSS: position.loss_sum / position.seen,
                metrics.TRAIN_ACCURACY: position.correct / position.seen,
                metrics.VALIDATION_LOSS: score.loss,
                metrics.VALIDATION_ACCURACY: score.accuracy,
            }
            history.add(values, epoch=epoch + 1)
            self.observer.measured(values)
            position = Position(epoch + 1, history=history.entries)
            self.observer.clock.begin()
            checkpoints.write(self.network, self.optimizer, position)
            self.observer.clock.mark("checkpoint")
            # Printed last: an epoch that was announced is never lost.
            say(f"epoch {epoch + 1}/{self.hyperparameters.epochs}: {metrics.line(values)}")

    def _train_epoch(self, images: Source, position: Position) -> None:
        """Train on every batch of the epoch that is still to come, and advance the position."""
        options = self.hyperparameters
        steps = steps_per_epoch(len(images), options.batch_size)
        self.observer.training()
        self.network.train(options.trainable == "all")
        loss_sum = torch.zeros((), device=self.processor.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.processor.device)
        batches = images.training_batches(
            batch_size=options.batch_size,
            seed=options.seed,
            epoch=position.epoch,
            first_step=position.step,
        )
        name = f"Epoch {position.epoch + 1}"
        try:
            for views, labels in track(batches, total=steps - position.step, description=name):
                rate = learning_rate(
                    options.lr, position.epoch * steps + position.step, options.epochs * steps
                )
                self.observer.clock.mark("data_wait")
                loss, logits = self._step(images, views, labels, rate)
                # Sums stay on the device: reading them here would make it wait at every step.
                loss_sum += loss * len(labels)
                correct += (logits.argmax(1) == labels.to(logits.device)).sum()
                position.seen += len(labels)
                position.step += 1
                self.observer.stepped(rate)
                self.stop.check()
        finally:
            position.loss_sum += float(loss_sum)
            position.correct += int(correct)

    def _step(
        self, images: Source, views: Tensor, labels: Tensor, rate: float
    ) -> tuple[Tensor, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        clock = self.observer.clock
        views, targets = views.to(self.processor.device), labels.to(self.processor.device)
        clock.mark("to_device")
        with self.processor.autocast():
            logits = self.network(images.inputs(views))
        # smdebug cannot save bfloat16, and the loss wants the precision.
        loss = self.criterion(logits.float(), targets)
        clock.mark("forward")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clock.mark("backward")
        self.optimizer.step()
        clock.mark("optimizer")
        return loss.detach(), logits.detach()

    @torch.no_grad()
    def evaluate(self, images: Source, name: str) -> Score:
        """Loss and accuracy on the views that serving sees. Raises Stopped."""
        self.observer.evaluation()
        self.network.eval()
        loss_sum, correct = 0.0, 0
        size = self.hyperparameters.test_batch_size
        batches = images.evaluation_batches(size)
        for views, labels in track(
            batches, total=steps_per_epoch(len(images), size), description=name
        ):
            with self.processor.autocast():
                logits = self.network(images.inputs(views.to(self.processor.device)))
            self.observer.answered(logits)
            targets = labels.to(self.processor.device)
            loss_sum += float(self.criterion(logits.float(), targets)) * len(labels)
            correct += int((logits.argmax(1) == targets).sum())
            self.stop.check()
        self.observer.clock.mark("evaluation")
        return Score(loss_sum / len(images), correct / len(images))


def build_optimizer(network: nn.Module, options: Hyperparameters) -> torch.optim.Optimizer:
    """AdamW or SGD over the trainable parameters; biases and norms do not decay."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=options.lr, eps=options.eps)


def learning_rate(peak: float, step: int, steps: int) -> float:
    """Linear warm-up over the first twentieth of all steps, then half a cosine down to zero."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
