"""All that looks at a training, behind one object: hook, rules, clock, report.

Training tells it what it does. Nothing in here may take training down.
"""

import platform
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from container.debugging import report
from container.debugging.clock import Clock
from container.debugging.hook import Hook, create_hook
from container.debugging.report.material import (
    Answers,
    Material,
    Split,
    read_metrics,
    read_rejected,
)
from container.debugging.rules.rule import Result
from container.debugging.rules.selection import select
from container.debugging.tensors import Tensors
from container.debugging.watch import Watch
from container.errors import UserError
from container.hyperparameters import Hyperparameters, as_strings
from container.job import Job
from container.progress import say
from container.training.stopping import Stopped


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
        self._started = time.time()
        self._classes: Sequence[str] = ()
        self._splits: Mapping[str, Split] = {}
        self._digest = ""
        self._device = ""
        self._rates = array("f")
        self._answers: list[Tensor] = []
        self._watch: Watch | None = None
        self._finished = False

    def describe(
        self, *, classes: Sequence[str], splits: Mapping[str, Split], digest: str, device: str
    ) -> None:
        """What is trained on, and where."""
        self._classes, self._splits = classes, splits
        self._digest, self._device = digest, device

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
        self._answers.clear()
        self.clock.begin()

    def stepped(self, rate: float) -> None:
        """A training step is done, with this learning rate."""
        self._rates.append(rate)
        self.clock.end_step()

    def answered(self, logits: Tensor) -> None:
        """The network's scores for the next images of the split that is evaluated."""
        self._answers.append(logits.detach().float().cpu())

    def finish(self) -> None:
        """The network is trained: complete the hook's files, and say what the rules found."""
        if self._finished:
            return
        self._finished = True
        self.hook.close()
        if self._watch:
            self.results = self._watch.close()
            fired = [each.rule for each in self.results if each.status == "IssuesFound"]
            say(f"Rules: {', '.join(fired) or 'none'} fired, of {len(self.results)} that looked.")

    def report(self, outcome: str, failure: str = "") -> None:
        """Write the report of what there is."""
        self.finish()
        try:
            page = report.write(self._material(outcome, failure), self.job.output_data_dir)
            say(f"Report: {page}")
        except Exception as error:  # the training is done, whatever becomes of its report
            say(f"The report could not be written ({type(error).__name__}: {error}).")

    def _material(self, outcome: str, failure: str) -> Material:
        data = self.job.output_data_dir
        return Material(
            outcome=outcome,
            failure=failure,
            started=self._started,
            ended=time.time(),
            hyperparameters=as_strings(self.options),
            versions={
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
                "numpy": np.__version__,
            },
            device=self._device,
            classes=self._classes,
            counts={
                name: np.bincount(split.labels, minlength=len(self._classes)).tolist()
                for name, split in self._splits.items()
            },
            digest=self._digest,
            rejected=read_rejected(data / "rejected_images.csv"),
            metrics=read_metrics(data / "metrics.jsonl"),
            rates=self._rates,
            tensors=Tensors(self.hook.directory) if self.hook.directory else None,
            tensors_missing=self.hook.failure or "",
            results=self.results,
            answers=self._last_answers(),
            clock=self.clock,
        )

    def _last_answers(self) -> Answers | None:
        """The last evaluation's, which is the test's where there is one."""
        if not self._answers:
            return None
        scores = torch.cat(self._answers).softmax(1).numpy()
        for name in ("test", "validation"):
            split = self._splits.get(name)
            if split is not None and len(split.labels) == len(scores):
                return Answers(name, split.labels, scores, split.images, split.paths)
        return None


@contextmanager
def observing(job: Job, options: Hyperparameters) -> Iterator[Observer]:
    """An observer of the job, which writes its report however the job ends. Raises UserError."""
    observer = Observer(job, options)
    try:
        yield observer
    except Stopped:
        observer.report("stopped")
        raise
    except UserError as error:
        observer.report("failed", str(error))
        raise
    except Exception as error:
        observer.report("failed", f"{type(error).__name__}: {error}")
        raise
    observer.report("completed")
