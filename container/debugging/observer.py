"""All that looks at a training, behind one object: hook, rules, clock, report.

Training tells it what it does. Nothing in here may take training down.
"""

import json
import platform
import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn

from container import processors
from container.debugging import report
from container.debugging.clock import Clock, HostTimer
from container.debugging.companion import Companion
from container.debugging.cuda_timer import CudaTimer
from container.debugging.evaluations import Evaluations
from container.debugging.hook import Hook, create_hook, saves_tensors
from container.debugging.logbook import Logbook
from container.debugging.profiler.live import FIRED_FILE, last_look
from container.debugging.profiler.operators import OperatorProfiler, parse_steps
from container.debugging.profiler.profile import read
from container.debugging.profiler.step_log import StepLog
from container.debugging.report.material import (
    Material,
    Split,
    read_metrics,
    read_rejected,
)
from container.debugging.results import Result, write_results
from container.debugging.selection import as_text, select, select_profile_rules
from container.debugging.tensors import Tensors
from container.debugging.watch import Watch
from container.errors import UserError
from container.hyperparameters import Hyperparameters, as_strings
from container.job import Job
from container.metrics import Metric
from container.progress import say
from container.stopping import Stopped


class Observer:
    """What looks at one training job."""

    def __init__(self, job: Job, options: Hyperparameters, *, first: bool = True) -> None:
        """Raises UserError where `rules` names one that there is not, or that could see nothing."""
        _check_rules(job, options)
        self._profile_rules = select_profile_rules(options.rules)
        steps = parse_steps(options.profile_steps)
        self.job = job
        self.options = options
        self.hook = Hook()
        self.clock = Clock(CudaTimer() if torch.cuda.is_available() else HostTimer())
        self.evaluations = Evaluations()
        self.results: list[Result] = []
        self._started = time.time()
        self._profile_dir = job.output_dir / "profiler"
        self._since = self._started
        """Samples before this are an earlier run's; after a resume they are this training's."""
        self._first = first
        if first and not any(job.checkpoint_dir.glob("*.safetensors")):
            shutil.rmtree(self._profile_dir, ignore_errors=True)
            for name in ("metrics.jsonl", "rejected_images.csv"):
                (job.output_data_dir / name).unlink(missing_ok=True)
        if first:
            (self._profile_dir / FIRED_FILE).unlink(missing_ok=True)
        self._sampler = (
            Companion(
                "container.debugging.profiler.sampler",
                str(self._profile_dir),
                _node(job),
                as_text(self._profile_rules),
            )
            if options.profile
            else None
        )
        self._step_log: StepLog | None = None
        tensorboard = job.output_dir / "tensorboard" if options.tensorboard else None
        self._logbook = Logbook(tensorboard, as_strings(options)) if first else None
        self._trained = 0
        """Steps before this part of the training, which a resume begins."""
        self._operators = OperatorProfiler(steps, self._profile_dir)
        self._classes: Sequence[str] = ()
        self._splits: Mapping[str, Split] = {}
        self._digest = ""
        self._device = ""
        self._rates = array("f")
        self._search: Mapping[str, Any] | None = None
        self._watch: Watch | None = None
        self._finished = False

    def describe(
        self, *, classes: Sequence[str], splits: Mapping[str, Split], digest: str, device: str
    ) -> None:
        """What is trained on, and where."""
        self._classes, self._splits = classes, splits
        self._digest, self._device = digest, device

    def register(
        self, network: nn.Module, criterion: nn.Module, *, trained: int = 0, evaluated: int = 0
    ) -> None:
        """Watch a network and its loss, after so many steps of training and of evaluation.

        Comes after the head is new and the backbone frozen.
        """
        self._trained = trained
        self.hook = create_hook(self.job, self.options.debug)
        self.hook.register(network, criterion, trained=trained, evaluated=evaluated)
        self.clock.hook_seconds = self.hook.seconds
        if trained:
            self._since = 0.0
        if self._first:
            self._try_to_log_steps(lambda: self._start_step_log(trained))
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

    @property
    def _steps(self) -> int:
        """Steps trained so far, those before a resume too."""
        return self._trained + self.clock.count

    def searched(self, search: Mapping[str, Any]) -> None:
        """How the learning rate was found."""
        self._search = search

    def training(self) -> None:
        """The steps from here on are training steps."""
        self.hook.training()
        self._operators.before_step(self._steps)
        self.clock.begin()

    def evaluation(self) -> None:
        """The steps from here on are evaluation steps."""
        self.hook.evaluation()
        self._operators.before_evaluation(self._steps)
        self.clock.begin()

    def stepped(self, rate: float) -> None:
        """A training step is done, with this learning rate."""
        self._rates.append(rate)
        self.clock.end_step()
        self._log_steps()
        self._operators.before_step(self._steps)

    def _start_step_log(self, trained: int) -> None:
        cores = processors.available()
        self._step_log = StepLog(
            self._profile_dir,
            self.clock,
            trained=trained,
            started=self._started,
            # Features are computed once; there are no images to prepare for each step.
            workers=cores if self.options.trainable == "all" else 0,
            cores=cores,
        )

    def _log_steps(self, *, now: bool = False) -> None:
        if self._step_log:
            log = self._step_log
            self._try_to_log_steps(lambda: log.write(self._rates, now=now))

    def _try_to_log_steps(self, call: Callable[[], None]) -> None:
        """Training goes on without the times of its steps."""
        try:
            call()
        except OSError as error:
            self._step_log = None
            say(f"The times of steps are no longer written: {error}.")

    def measured(self, values: Mapping[Metric, float]) -> None:
        """The metrics of an epoch, or of the test."""
        numbers = {metric.name: value for metric, value in values.items()}
        if self._rates:
            numbers["learning-rate"] = self._rates[-1]
        if self._logbook:
            self._logbook.add(numbers, self._steps)

    def finish(self) -> None:
        """The network is trained: complete the hook's files, and say what the rules found."""
        if self._finished:
            return
        self._finished = True
        self._operators.close()
        self.hook.close()
        if self._watch:
            self.results = self._watch.close()
            fired = [each.rule for each in self.results if each.fired]
            looked = sum(each.status != "Error" for each in self.results)
            say(f"Rules: {', '.join(fired) or 'none'} fired, of {looked} that looked.")

    def report(self, outcome: str, failure: str = "") -> None:
        """Write the report of what there is."""
        self.finish()
        if self._sampler:
            self._sampler.close(5, "Sampling the machine")
        try:
            self._log_steps(now=True)
            found = last_look(self._profile_dir, self._profile_rules, since=self._since)
            rules_file = self.job.output_data_dir / "rules.jsonl"
            write_results(rules_file, [*self.results, *found])
            page = report.write(self._material(outcome, failure, found), self.job.output_data_dir)
            say(f"Report: {page}")
        except Exception as error:  # the training is done, whatever becomes of its report
            say(f"The report could not be written ({type(error).__name__}: {error}).")
        if self._logbook:
            self._logbook.close(self.job.output_data_dir, outcome)

    def _material(self, outcome: str, failure: str, found: Sequence[Result]) -> Material:
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
            search=self._search,
            tensors=Tensors(self.hook.directory) if self.hook.directory else None,
            tensors_missing=self.hook.failure or "",
            results=self.results,
            answers=self.evaluations.last(self._splits),
            profile=read(self._profile_dir, self._since),
            profile_results=found,
        )


def _check_rules(job: Job, options: Hyperparameters) -> None:
    """Raise UserError where rules are asked for that do not exist, or that could see nothing."""
    chosen = select(options.rules, (), pretrained=False)
    asked = []
    if chosen and options.rules != "default":
        asked.append(f"rules={options.rules} looks")
    if options.on_rule == "stop":
        asked.append("on-rule=stop follows rules that look")
    if asked and not saves_tensors(job, options.debug):
        raise UserError(
            f"{asked[0]} at tensors, and debug={options.debug} saves none. Set debug to losses, "
            "standard or full."
        )


def _node(job: Job) -> str:
    """This machine's name among the job's, such as algo-1."""
    try:
        content = json.loads((job.config_dir / "resourceconfig.json").read_text(encoding="utf-8"))
        return str(content["current_host"])
    except (OSError, ValueError, KeyError, TypeError):
        return "algo-1"


@contextmanager
def observing(job: Job, options: Hyperparameters, *, first: bool = True) -> Iterator[Observer]:
    """An observer of the job, which writes its report however the job ends. Raises UserError.

    Of several processes that train together only the first is to be observed.
    """
    if not first:
        quiet = replace(options, profile=False, profile_steps="off", rules="off", on_rule="warn")
        yield Observer(job, quiet, first=False)
        return
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
