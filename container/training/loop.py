"""The training loop: epochs of steps, an evaluation after each, a checkpoint in between."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

from container import metrics
from container.debugging.observer import Observer
from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.metrics import Metric
from container.progress import say
from container.stopping import Stopped
from container.training.averaging import WeightAverage
from container.training.checkpoint import Checkpoints, Position, State
from container.training.history import History
from container.training.passes import Passes, Score
from container.training.source import Source, steps_per_epoch


class Training:
    """The course of a training: epochs, the best of them, and the way back to it."""

    def __init__(
        self, passes: Passes, hyperparameters: Hyperparameters, observer: Observer
    ) -> None:
        self.passes = passes
        self.network = passes.network
        self.hyperparameters = hyperparameters
        self.observer = observer
        ema = hyperparameters.ema
        self._average = WeightAverage(self.network, ema) if ema else None
        self._best: State = {}
        """The network's tensors after its best epoch."""

    def fit(
        self,
        train: Source,
        validation: Source,
        checkpoints: Checkpoints,
        history: History,
        *,
        tested: bool,
    ) -> None:
        """Train for all epochs, from the newest checkpoint if there is one.

        After each epoch the metrics are printed and added to the history. Where no test follows
        (`tested`), the last evaluation is of the best epoch's network.

        Raises:
            Stopped: the job was asked to stop; a checkpoint is saved, and the network is that of
                the best epoch, or of the last step where no epoch is done.
            UserError: no epoch ended with a finite validation loss, or a first one that was not
                done has lost its own.
        """
        position, self._best, average = checkpoints.restore(self.network, self.passes.optimizer)
        if self._average and average:
            self._average.resume(average)
        history.resume(position.history)
        self._choose_rate(train, position)
        options = self.hyperparameters
        # From here on: what came before were no steps of this training.
        self.observer.register(
            self.network,
            self.passes.criterion,
            trained=position.epoch * steps_per_epoch(len(train), options.batch_size)
            + position.step,
            evaluated=position.epoch * steps_per_epoch(len(validation), options.test_batch_size),
        )
        was_done = self._is_done(position)
        while not self._is_done(position):
            try:
                self.passes.train(
                    train,
                    position,
                    average=self._average,
                    is_due=checkpoints.due,
                    save=partial(self._write, checkpoints),
                )
                with self._average.applied() if self._average else nullcontext():
                    score = self.passes.evaluate(
                        validation, "validation", f"Epoch {position.epoch + 1} validation"
                    )
                    values = {
                        metrics.TRAIN_LOSS: position.loss_sum / position.seen,
                        metrics.TRAIN_ACCURACY: position.correct / position.seen,
                        metrics.VALIDATION_LOSS: score.loss,
                        metrics.VALIDATION_ACCURACY: score.accuracy,
                    }
                    self.observer.measured(values)
                    position = self._next(position, score, history, values)
            except Stopped:
                self._write(checkpoints, position)
                if position.epoch:
                    self._go_back(position, history)
                elif not math.isfinite(position.loss_sum):
                    raise _diverged("training loss was not a finite number", position) from None
                elif self._average:
                    self._average.apply()
                raise
            self.observer.clock.begin()
            self._write(checkpoints, position)
            self.observer.clock.mark("checkpoint")
            # Printed last: an epoch that was announced is never lost.
            epochs = self.hyperparameters.epochs
            say(f"epoch {position.epoch}/{epochs}: {metrics.line(values)}")
        is_older = self._go_back(position, history)
        if (is_older or was_done) and not tested:
            # The report shows the answers of the network that is kept, though it was trained by a
            # process that was killed when it was done.
            self.passes.evaluate(validation, "validation", f"Best epoch {position.best_epoch}")

    def _write(self, checkpoints: Checkpoints, position: Position) -> None:
        average = self._average.state if self._average else {}
        checkpoints.write(self.network, self.passes.optimizer, position, self._best, average)

    def _choose_rate(self, train: Source, position: Position) -> None:
        """The learning rate that was asked for, or the one found before; else look for one."""
        if self.hyperparameters.lr is not None:
            position.rate = self.hyperparameters.lr
        elif position.search is None:
            found = self.passes.search_rate(train)
            position.rate, position.search = found.chosen, found.as_json()
            say(f"lr=auto chose {found.chosen:.2g}, after {len(found.rates)} steps.")
        if position.search is not None:
            self.observer.searched(position.search)

    def _next(
        self, done: Position, score: Score, history: History, values: Mapping[Metric, float]
    ) -> Position:
        """The start of the next epoch; keeps the network's tensors if they are the best so far."""
        epoch = done.epoch + 1
        history.add(values, epoch=epoch)
        best_epoch, best_loss = done.best_epoch, done.best_loss
        # A loss that is no number is below nothing, and nothing would be below it.
        if score.loss < best_loss:
            best_epoch, best_loss = epoch, score.loss
            self.observer.evaluations.mark_best()
            state = self.network.state_dict()
            self._best = {name: tensor.clone() for name, tensor in state.items()}
        return Position(
            epoch,
            history=history.entries,
            best_epoch=best_epoch,
            best_loss=best_loss,
            rate=done.rate,
            search=done.search,
        )

    def _is_done(self, position: Position) -> bool:
        options = self.hyperparameters
        out_of_patience = 0 < options.patience <= position.epoch - position.best_epoch
        return out_of_patience or position.epoch >= options.epochs

    def _go_back(self, position: Position, history: History) -> bool:
        """Give the network the weights of its best epoch, and say so where it is not the last.

        The tuner reads the last value that is printed, so the best epoch's are printed again.
        Raises UserError where there is none.
        """
        if not position.best_epoch:
            raise _diverged("validation loss was not a finite number after any epoch", position)
        self.network.load_state_dict(self._best)
        self.observer.evaluations.back_to_best()
        if position.best_epoch == position.epoch:
            return False
        entry = history.entries[position.best_epoch - 1]
        measured = (
            metrics.TRAIN_LOSS,
            metrics.TRAIN_ACCURACY,
            metrics.VALIDATION_LOSS,
            metrics.VALIDATION_ACCURACY,
        )
        values = {metric: entry[metric.name] for metric in measured}
        history.add(values, best_epoch=position.best_epoch)
        say(f"best epoch {position.best_epoch}: {metrics.line(values)}")
        return True


def _diverged(how: str, position: Position) -> UserError:
    return UserError(f"Training has diverged: the {how}. Lower lr, which was {position.rate:g}.")
