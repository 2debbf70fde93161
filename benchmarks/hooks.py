"""What watching a training costs: smdebug's hook in each setting, the rules, the profiler.

Costs of a thousandth cannot be seen as a difference between two noisy runs. So the hook's own clock
counts what it takes at each kind of step, and each kind is counted as often as it comes in a
training of EPOCHS epochs of IMAGES images; what runs beside training is counted by the processor's
time that it takes. One pair of rows compares whole steps, to show that nothing is missing.

`python -m benchmarks hooks` runs this alone.
"""

import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from benchmarks.table import Row, middle
from container.debugging.clock import STEP_PHASES, Clock
from container.debugging.companion import Companion
from container.debugging.hook import Hook, create_hook
from container.debugging.profiler.step_log import StepLog
from container.debugging.selection import as_text, select, select_profile_rules
from container.debugging.watch import Watch
from container.job import Job

IMAGES, VALIDATION, EPOCHS, BATCH, CLASSES = 6680, 835, 5, 32, 133
"""The dog breeds, which Kennel was made for, at its default number of epochs."""

START = 11
"""Steps at the start of which presets save more: rules on the initialisation look at ten."""
PERIODS = {"losses": 10, "standard": 50, "full": 100}
"""After how many steps each preset's course repeats itself."""


@dataclass
class Step:
    """What takes time in a training of ResNet-18."""

    size: int
    batch: int

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.network = resnet18(num_classes=CLASSES).to(memory_format=torch.channels_last)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-4, momentum=0.9)
        images = torch.randn(self.batch, 3, self.size, self.size)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(self.batch) % CLASSES
        self.bfloat16 = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))

    def train(self, images: int | None = None) -> float:
        """One step, on so many of the batch's images; returns its seconds."""
        started = time.perf_counter()
        self.network.train()
        loss = self.criterion(self._answers(images), self.labels[:images])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - started

    @torch.no_grad()
    def evaluate(self) -> None:
        """The same without learning."""
        self.network.eval()
        self.criterion(self._answers(None), self.labels)

    def _answers(self, images: int | None) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits: Tensor = self.network(self.images[:images])
        return logits.float()


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """The table's rows."""
    size, batch = (64, 8) if quick else (224, BATCH)
    plain = Step(size, batch)
    plain.train()
    seconds = middle([plain.train() for _ in range(3 if quick else 8)])
    name = f"ResNet-18, {size} px, batch {batch}"
    rows = [Row(f"{name}: a step with debug=off", f"{1000 * seconds:.0f} ms")]
    rows.append(_whole_steps(scratch / "idle", plain, size, batch, rounds=3 if quick else 10))
    for preset in ("losses", "standard", "full"):
        rows.append(_preset(scratch / preset, preset, size, batch, seconds))
    rows += _beside(scratch / "beside", 6.0 if quick else 25.0)
    rows.append(_clock(scratch / "clock", seconds))
    return rows


def _whole_steps(scratch: Path, plain: Step, size: int, batch: int, *, rounds: int) -> Row:
    """Steps at which nothing is due, in turns with steps that have no hook at all."""
    watched = Step(size, batch)
    hook = _hook(scratch, "full", watched, trained=11)
    watched.train()
    before = hook.seconds()
    pairs = [(plain.train(), watched.train()) for _ in range(rounds)]
    idle = (hook.seconds() - before) / rounds
    hook.close()
    differences = sorted(with_hook / without - 1 for without, with_hook in pairs)
    step = middle([without for without, _ in pairs])
    return Row(
        "idle: debug=full at a step that saves nothing",
        f"{1000 * idle:.2f} ms, {idle / step:.3%} of the step; whole steps differ by "
        f"{middle(differences):+.1%}, {rounds} pairs from {differences[0]:+.1%} to "
        f"{differences[-1]:+.1%}",
    )


def _preset(scratch: Path, preset: str, size: int, batch: int, seconds: float) -> Row:
    """What a preset takes of a whole training, and of its first epoch.

    The start and one period are run; a training is the start and as many periods as fit.
    """
    step, period = Step(size, batch), PERIODS[preset]
    hook = _hook(scratch, preset, step)
    costs = [_cost(hook, partial(step.train, _images(n))) for n in range(START + period)]
    hook.evaluation()
    evaluation = [_cost(hook, step.evaluate) for _ in range(4)][-1]
    hook.close()
    steps, evaluations = -(-IMAGES // BATCH), -(-VALIDATION // 128)

    def share(epochs: int) -> float:
        """Of the time that the steps of so many epochs take without the hook."""
        periods = (epochs * steps - START) / period
        spent = sum(costs[:START]) + periods * sum(costs[START:])
        return (spent + epochs * evaluations * evaluation) / (epochs * steps * seconds)

    return Row(
        f"debug={preset}",
        f"{share(EPOCHS):.2%} of {EPOCHS} epochs of {IMAGES} images, {share(1):.2%} of the first; "
        f"{1000 * max(costs[START:]):.0f} ms for the dearest step",
    )


def _images(number: int) -> int | None:
    """The whole batch where something is due; elsewhere the hook sees none of the images."""
    return None if number < START or number % 10 == 0 else 2


def _cost(hook: Hook, call: Callable[[], object]) -> float:
    """The hook's seconds in a step, and in writing what the step before it saved."""
    before = hook.seconds()
    call()
    return hook.seconds() - before


def _hook(scratch: Path, preset: str, step: Step, *, trained: int = 0) -> Hook:
    hook = create_hook(Job(scratch), preset)
    hook.register(step.network, step.criterion, trained=trained)
    hook.training()
    if hook.failure:
        raise RuntimeError(hook.failure)
    return hook


def _beside(scratch: Path, seconds: float) -> Iterator[Row]:
    """The processor's time of the two processes beside a training that saves tensors."""
    step = Step(64, 8)
    hook = _hook(scratch, "standard", step)
    assert hook.directory
    rules = select("default", hook.collections, pretrained=False)
    sampler = Companion(
        "container.debugging.profiler.sampler",
        str(scratch / "profiler"),
        "algo-1",
        as_text(select_profile_rules("default")),
    )
    (sampling,) = _children()
    watch = Watch(hook.directory, scratch / "rules.jsonl", rules, stop=False)
    (watching,) = _children() - {sampling}
    # The pace at which full-size steps save, so that the rules have as much to read.
    deadline, pause = time.monotonic() + 4, 0.05
    while time.monotonic() < deadline:
        step.train()
    starts = [_seconds(process) for process in (sampling, watching)]
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        step.train()
        time.sleep(pause)
    wall = time.monotonic() - began
    ends = [_seconds(process) for process in (sampling, watching)]
    hook.close()
    watch.close()
    sampler.close(5, "Sampling")
    cores = psutil.cpu_count() or 1
    names = ("profiler: samples of the machine twice a second", "rules beside training")
    for name, start, end in zip(names, starts, ends, strict=True):
        share = (end - start) / wall
        yield Row(
            name,
            f"{share:.2%} of a core, {share / cores:.2%} of {cores}; {start:.1f} s once to start",
        )


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _clock(scratch: Path, seconds: float) -> Row:
    """Marks between the phases of a step, and their lines in a file."""
    steps = 2000
    clock = Clock()
    log = StepLog(scratch, clock, trained=0, started=time.time(), workers=1, cores=1)
    started = time.perf_counter()
    clock.begin()
    for _ in range(steps):
        for phase in STEP_PHASES[:-1]:
            clock.mark(phase)
        clock.end_step()
    log.write(array("f", [0.1] * steps), now=True)
    spent = (time.perf_counter() - started) / steps
    return Row("profiler: times of a step's phases", f"{1e6 * spent:.0f} us, {spent / seconds:.4%}")
