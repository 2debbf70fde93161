"""All that looks at a training, behind one object: hook, rules, clock.

Training tells it what it does. Nothing in here may take training down.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from container.debugging.clock import Clock
from container.debugging.hook import Hook, create_hook
from container.debugging.rules.rule import Result
from container.debugging.rules.selection import select
from container.debugging.watch import Watch
from container.hyperparameters import Hyperparameters
from container.job import Job
from container.progress import say


class Observer:
    """What looks at one training job."""

    def __init__(self, job: Job, options: Hyperparameters) -> None:
        """Raises UserError where `rules` names one that there is not."""
        select(options.rules, (), pretrained=False)
        self.job = job
        self.options = options
        self.hook = Hook()
        self.clock = Clock(torch.cuda.synchronize if torch.cuda.is_available() else None)
        self.results: list[Result] = []
        self._watch: Watch | None = None
        self._finished = False

    def register(self, network: nn.Module, criterion: nn.Module) -> None:
        """Watch a network and its loss. Comes after the head is new and the backbone frozen."""
        self.hook = create_hook(self.job, self.options.debug)
        self.hook.register(network, criterion)
        self.clock.hook_seconds = self.hook.seconds
        rules = select(
            self.options.rules,
            self.hook.collections,
            pretrained=self.options.weights == "imagenet",
        )
        if self.hook.directory and rules:
            self._watch = Watch(
                self.hook.directory,
                self.job.output_data_dir / "rules.jsonl",
                rules,
                stop=self.options.on_rule == "stop",
            )

    def training(self) -> None:
        """The steps from here on are training steps."""
        self.hook.training()
        self.clock.begin()

    def evaluation(self) -> None:
        """The steps from here on are evaluation steps."""
        self.hook.evaluation()
        self.clock.begin()

    def stepped(self) -> None:
        """A training step is done."""
        self.clock.end_step()

    def finish(self) -> None:
        """The network is trained: complete the hook's files, and say what the rules found."""
        if self._finished:
            return
        self._finished = True
        self.hook.close()
        if self._watch:
            self.results = self._watch.close()
            fired = [each.rule for each in self.results if each.status == "IssuesFound"]
            say(
                f"Rules: {len(self.results)} looked, {len(fired)} fired {', '.join(fired)}".rstrip()
            )


@contextmanager
def observing(job: Job, options: Hyperparameters) -> Iterator[Observer]:
    """An observer of the job, finished however the job ends. Raises UserError."""
    observer = Observer(job, options)
    try:
        yield observer
    finally:
        observer.finish()
