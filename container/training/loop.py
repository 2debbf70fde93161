"""The training loop: epochs of steps, an evaluation after each, a checkpoint in between."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from container import metrics
from container.debugging.observer import Observer
from container.hyperparameters import Hyperparameters
from container.metrics import Metric
from container.progress import say, track
from container.training.checkpoint import Checkpoints, Position, State
from container.training.history import History
from container.training.optimization import build_optimizer, learning_rate
from container.training.source import Source, steps_per_epoch
from container.training.stopping import Stopped, StopSignal


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
        criterion: nn.Module,
        processor: Processor,
        observer: Observer,
        stop: StopSignal,
    ) -> None:
        self.network = network
        self.hyperparameters = hyperparameters
        self.processor = processor
        self.stop = stop
        self.criterion = criterion.to(processor.device)
        self.optimizer = build_optimizer(network, hyperparameters)
        self.observer = observer
        self._best: State = {}
        """The network's tensors after its best epoch."""
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
        position, self._best = checkpoints.restore(self.network, self.optimizer)
        history.resume(position.history)
        while not self._is_done(position):
            try:
                self._train_epoch(train, position)
                score = self.evaluate(validation, f"Epoch {position.epoch + 1} validation")
            except Stopped:
                checkpoints.write(self.network, self.optimizer, position, self._best)
                raise
            values = {
                metrics.TRAIN_LOSS: position.loss_sum / position.seen,
                metrics.TRAIN_ACCURACY: position.correct / position.seen,
                metrics.VALIDATION_LOSS: score.loss,
                metrics.VALIDATION_ACCURACY: score.accuracy,
            }
            self.observer.measured(values)
            position = self._next(position, score, history, values)
            self.observer.clock.begin()
            checkpoints.write(self.network, self.optimizer, position, self._best)
            self.observer.clock.mark("checkpoint")
            # Printed last: an epoch that was announced is never lost.
            epochs = self.hyperparameters.epochs
            say(f"epoch {position.epoch}/{epochs}: {metrics.line(values)}")
        self._go_back(position, history)

    def _next(
        self, done: Position, score: Score, history: History, values: Mapping[Metric, float]
    ) -> Position:
        """The start of the next epoch; keeps the network's tensors if they are the best so far."""
        epoch = done.epoch + 1
        history.add(values, epoch=epoch)
        best_epoch, best_loss = done.best_epoch, done.best_loss
        if best_epoch == 0 or score.loss < best_loss:
            best_epoch, best_loss = epoch, score.loss
            state = self.network.state_dict()
            self._best = {name: tensor.clone() for name, tensor in state.items()}
        return Position(epoch, history=history.entries, best_epoch=best_epoch, best_loss=best_loss)

    def _is_done(self, position: Position) -> bool:
        options = self.hyperparameters
        out_of_patience = 0 < options.patience <= position.epoch - position.best_epoch
        return out_of_patience or position.epoch >= options.epochs

    def _go_back(self, position: Position, history: History) -> None:
        """Give the network the weights of its best epoch, and say so where it is not the last.

        The tuner reads the last value that is printed, so the best epoch's are printed again.
        """
        if position.best_epoch == position.epoch:
            return
        self.network.load_state_dict(self._best)
        entry = history.entries[position.best_epoch - 1]
        values = {
            metric: entry[metric.name]
            for metric in (metrics.VALIDATION_LOSS, metrics.VALIDATION_ACCURACY)
        }
        history.add(values, best_epoch=position.best_epoch)
        say(f"best epoch {position.best_epoch}: {metrics.line(values)}")

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
            self.observer.answered(logits, labels)
            targets = labels.to(self.processor.device)
            loss_sum += float(self.criterion(logits.float(), targets)) * len(labels)
            correct += int((logits.argmax(1) == targets).sum())
            self.stop.check()
        self.observer.clock.mark("evaluation")
        return Score(loss_sum / len(images), correct / len(images))
