"""The means of training well: rates by layer, schedules, mixup, averaged weights, the search."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opt_ml import OptMl, write_images
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet18

from container import metrics, torch_resnet
from container.debugging.observer import Observer
from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.job import Job
from container.stopping import Stopped, StopSignal
from container.training.averaging import WeightAverage
from container.training.checkpoint import Checkpoints, Position
from container.training.decoded import DecodedImages
from container.training.history import History
from container.training.loop import Training
from container.training.mixup import mix
from container.training.optimization import build_criterion, build_optimizer, learning_rate
from container.training.passes import Passes, Score
from container.training.processor import Processor
from container.training.rate_search import choose, search
from container.training.world import World


def rates_by_parameter(options: Hyperparameters) -> dict[str, tuple[float, float]]:
    network = resnet18(num_classes=3)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = build_optimizer(network, options).param_groups
    return {
        names[id(parameter)]: (group["scale"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


def test_each_stage_learns_at_a_share_of_the_next_one_s_rate() -> None:
    found = rates_by_parameter(Hyperparameters(layer_decay=0.5, weight_decay=0.1))
    assert len(found) == len(list(resnet18().parameters()))
    scales = {name.split(".")[0]: scale for name, (scale, _) in found.items()}
    assert scales == {
        "fc": 1,
        "layer4": 0.5,
        "layer3": 0.25,
        "layer2": 0.125,
        "layer1": 0.0625,
        "conv1": 0.03125,
        "bn1": 0.03125,
    }
    decayed = {name for name, (_, decay) in found.items() if decay}
    assert decayed == {name for name, p in resnet18().named_parameters() if p.ndim > 1}


def test_a_constant_schedule_stays_at_its_peak_after_warm_up() -> None:
    options = Hyperparameters(schedule="constant", warm_up=0.1)
    rates = [learning_rate(1.0, step, 100, options) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(rates[10:]) == {1.0}


def test_mixup_mixes_images_and_labels_in_the_same_share() -> None:
    inputs, labels = torch.eye(8), torch.arange(8)
    mixed, targets = mix(inputs, labels, classes=8, alpha=1.0, seed=(3, 4))
    assert torch.equal(mixed, targets)
    assert targets.sum(1) == pytest.approx(torch.ones(8).numpy())
    assert torch.equal(targets.argmax(1), labels)
    again, _ = mix(inputs, labels, classes=8, alpha=1.0, seed=(3, 4))
    other, _ = mix(inputs, labels, classes=8, alpha=1.0, seed=(3, 5))
    assert torch.equal(mixed, again)
    assert not torch.equal(mixed, other)


def test_averaged_weights_follow_the_live_ones_and_give_way_to_them() -> None:
    linear = nn.Linear(2, 2)
    network = nn.Sequential(linear, nn.BatchNorm1d(2))
    average = WeightAverage(network, 0.5)
    start = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight += 1
    average.update(1000)
    live = linear.weight.detach().clone()
    with average.applied():
        assert torch.allclose(linear.weight, start + 0.5)
    assert torch.equal(linear.weight, live)
    average.apply()
    assert torch.allclose(linear.weight, start + 0.5)


def test_the_search_goes_half_way_from_the_steepest_fall_to_the_lowest_point() -> None:
    rates = np.logspace(-6, 1, 141).astype(np.float64)
    # Flat, a fall centred on 1e-3, lowest at 1e-1, then away.
    fall = 2 - 1 / (1 + np.exp(-4 * (np.log10(rates) + 3)))
    losses = fall + 5 * np.clip(np.log10(rates) + 1, 0, None)
    assert choose(rates, losses) == pytest.approx(1e-2, rel=0.2)


def test_a_search_that_tells_nothing_takes_the_usual_rate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = search(
        lambda views, labels, rate: 1 + rate, ((torch.zeros(1), torch.zeros(1)) for _ in range(100))
    )
    assert found.chosen == Hyperparameters().lr
    assert "lr=auto saw the loss fall nowhere, and takes 0.001" in capsys.readouterr().out


def test_the_search_ends_when_the_loss_runs_away() -> None:
    tried: list[float] = []

    def step(views: Tensor, labels: Tensor, rate: float) -> float:
        tried.append(rate)
        return 1.0 if rate < 1e-2 else float("inf")

    found = search(step, ((torch.zeros(1), torch.zeros(1)) for _ in range(1000)))
    assert len(tried) == len(found.rates) + 1 < 80


def test_eps_keeps_adam_s_steps_small_where_gradients_are() -> None:
    moved = []
    for eps in (1e-8, 1e-3):
        torch.manual_seed(0)
        network = resnet18(num_classes=3)
        optimizer = build_optimizer(network, Hyperparameters(eps=eps, weight_decay=0.0))
        before = network.fc.bias.detach().clone()
        network.fc.bias.grad = torch.full_like(before, 1e-3)
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        optimizer.step()
        moved.append(float((before - network.fc.bias.detach()).abs().max()))
    assert moved == pytest.approx([0.1, 0.05], rel=1e-3)  # 0.1 * g / (g + eps)


def test_label_smoothing_spreads_its_share_of_each_label_over_all_classes() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0, 0.5]]), torch.tensor([1])
    criterion = build_criterion(Hyperparameters(label_smoothing=0.2), labels.numpy(), 4)
    wanted = torch.full((1, 4), 0.2 / 4)
    wanted[0, 1] += 0.8
    expected = -(wanted * logits.log_softmax(1)).sum()
    assert float(criterion(logits, labels)) == pytest.approx(float(expected))


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often a number is read from a tensor, for which a GPU would have to be waited."""

    count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += int(func is torch.ops.aten._local_scalar_dense.default)
        return func(*args, **(kwargs or {}))


def reads(passes: Passes, steps: int) -> int:
    """How often an epoch of so many steps reads a number."""
    counted = Reads()  # type: ignore[no-untyped-call]
    with counted:
        passes.train(
            Noise(steps),
            Position(rate=0.1),
            average=None,
            is_due=lambda: False,
            save=lambda position: None,
        )
    return counted.count


class Noise:
    """A source of so many batches of two images."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return 2 * self._steps

    def training_batches(self, **_: int) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(torch.randn(2, 3, 32, 32), torch.arange(2))] * self._steps)

    def evaluation_batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(())

    def inputs(self, views: Tensor) -> Tensor:
        return views


def new_passes(
    directory: Path, options: Hyperparameters, criterion: nn.CrossEntropyLoss | None = None
) -> Passes:
    return Passes(
        torch_resnet.build("resnet18", 2),
        options,
        criterion or nn.CrossEntropyLoss(),
        Processor(torch.device("cpu"), bfloat16=False),
        Observer(Job(directory), options),
        StopSignal(),
        2,
        World(),
    )


def test_no_step_waits_for_its_numbers(tmp_path: Path) -> None:
    passes = new_passes(tmp_path, Hyperparameters(batch_size=2, profile=False, epochs=1))
    # Only the epoch's sums, at its end.
    assert reads(passes, steps=6) == reads(passes, steps=2) > 0


class Fixed(Noise):
    """The same five images in every pass, in training batches of two, two and one."""

    def __init__(self) -> None:
        super().__init__(3)
        self.images = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        self.labels = torch.tensor([0, 1, 1, 1, 1])

    def __len__(self) -> int:
        return len(self.labels)

    def training_batches(self, **_: int) -> Iterator[tuple[Tensor, Tensor]]:
        return self.evaluation_batches(2)

    def evaluation_batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        ends = [slice(start, start + batch_size) for start in range(0, len(self), batch_size)]
        return iter([(self.images[part], self.labels[part]) for part in ends])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_weighted_losses_are_means_over_all_images(tmp_path: Path, size: int) -> None:
    source = Fixed()
    options = Hyperparameters(
        class_weights="balanced", batch_size=2, test_batch_size=size, profile=False, ema=0.0
    )
    criterion = build_criterion(options, source.labels.numpy(), 2)
    passes = new_passes(tmp_path, options, criterion)
    score = passes.evaluate(source, "validation", "")
    with torch.no_grad():
        whole = criterion(passes.network(source.images), source.labels)
    assert score.loss == pytest.approx(float(whole), rel=1e-4)
    # Frozen batch statistics and a rate of zero: training sees the network that evaluation saw.
    for parameter in passes.network.parameters():
        parameter.requires_grad_(False)
    passes.network.get_submodule("fc").requires_grad_(True)
    position = Position(rate=0.0)
    passes.train(source, position, average=None, is_due=lambda: False, save=lambda _: None)
    assert position.loss_sum / position.seen == pytest.approx(float(whole), rel=1e-4)


def test_a_loss_that_is_no_number_is_never_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [math.nan, 0.5, math.inf, 0.4, math.nan]
    options = Hyperparameters(batch_size=2, profile=False, epochs=len(losses))
    passes = new_passes(tmp_path, options)
    scores = iter([Score(loss, np.eye(2, dtype=np.float32), np.arange(2)) for loss in losses])
    monkeypatch.setattr(passes, "evaluate", lambda *_: next(scores))
    history = History(tmp_path / "metrics.jsonl")
    checkpoints = Checkpoints(tmp_path / "checkpoints", "", seconds=0, world=World())
    Training(passes, options, passes.observer).fit(
        Noise(1), Noise(1), checkpoints, history, tested=True
    )
    assert history.entries[-1]["best_epoch"] == 4
    assert history.latest["validation:loss"] == 0.4
    written = [json.loads(line) for line in history.path.read_text().splitlines()]
    assert [entry.get("validation:loss") for entry in written] == [None, 0.5, None, 0.4, None, 0.4]


@pytest.mark.parametrize("pixel", [0.5, math.nan])
def test_of_a_first_epoch_that_is_stopped_only_finite_weights_are_kept(
    tmp_path: Path, pixel: float
) -> None:
    passes = new_passes(tmp_path, Hyperparameters(batch_size=2, profile=False))

    class StoppedSource(Noise):
        def inputs(self, views: Tensor) -> Tensor:
            passes.stop.requested = True  # as if the signal came in the middle of the first step
            return torch.full_like(views, pixel)

    checkpoints = Checkpoints(tmp_path / "checkpoints", "", seconds=0, world=World())
    history = History(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError if math.isnan(pixel) else Stopped) as caught:
        Training(passes, passes.hyperparameters, passes.observer).fit(
            StoppedSource(3), Noise(1), checkpoints, history, tested=True
        )
    if math.isnan(pixel):
        rate = f"{passes.hyperparameters.lr:g}"
        assert str(caught.value) == (
            "Training has diverged: the training loss was not a finite number. "
            f"Lower lr, which was {rate}."
        )


def test_a_training_that_was_killed_when_it_was_done_has_its_answers(tmp_path: Path) -> None:
    source, options = Fixed(), Hyperparameters(batch_size=2, profile=False, epochs=1)
    split = DecodedImages((), source.labels.numpy(), (), ())
    for run in range(2):  # the second finds the checkpoint after the last epoch of the first
        passes = new_passes(tmp_path, options)
        checkpoints = Checkpoints(tmp_path / "checkpoints", "", seconds=0, world=World())
        history = History(tmp_path / "metrics.jsonl")
        Training(passes, options, passes.observer).fit(
            source, source, checkpoints, history, tested=False
        )
        assert passes.observer.clock.count == (0 if run else 3)
        answers = passes.observer.evaluations.last({"validation": split})
        assert answers is not None
        assert np.array_equal(answers.truth, split.labels)


@pytest.fixture
def images(opt_ml: OptMl) -> OptMl:
    write_images(opt_ml.channel("train"), count=20)
    return opt_ml


def test_lr_auto_finds_a_rate_shows_its_curve_and_repeats_itself(images: OptMl) -> None:
    digests = []
    for _ in range(2):
        result = images.train({"lr": "auto", "epochs": "2", "trainable": "head"})
        assert result.returncode == 0, result.stderr
        digests.append(images.facts()["weights_sha256"])
    assert digests[0] == digests[1]
    assert images.facts()["hyperparameters"]["lr"] == "auto"
    report = json.loads((images.base / "output/data/report.json").read_text())
    found = report["rate_search"]
    assert found["rates"][0] < found["chosen"] < found["rates"][-1]
    assert "Search for a learning rate" in (images.base / "output/data/report.html").read_text()


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_size_of_test_batches_changes_no_answer(images: OptMl, weights: str) -> None:
    for path in sorted((images.channel("train") / "dog").iterdir())[8:]:
        path.unlink()
    losses = []
    for size in ("1", "64"):
        options = {"epochs": "1", "precision": "float32", "class-weights": weights}
        result = images.train(options | {"test-batch-size": size})
        assert result.returncode == 0, result.stderr
        losses.append(images.facts()["metrics"]["validation:loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_mixed_images_and_averaged_weights_repeat_themselves(images: OptMl) -> None:
    digests = []
    for _ in range(2):
        result = images.train({"epochs": "2", "ema": "0.9", "mixup": "0.4", "seed": "1"})
        assert result.returncode == 0, result.stderr
        digests.append(images.facts()["weights_sha256"])
    assert digests[0] == digests[1]


def test_the_final_test_says_what_a_reader_wants_to_know(images: OptMl) -> None:
    result = images.train({"epochs": "1"})
    assert result.returncode == 0
    values = images.facts()["metrics"]
    assert {metric.name for metric in metrics.METRICS} <= set(values)
    assert values["test:top-5-accuracy"] == 1  # of two classes
    assert "Hardest classes" in result.stdout or "Every test image" in result.stdout
    answers = json.loads((images.base / "output/data/report.json").read_text())["answers"]
    assert answers["balanced_accuracy"] == pytest.approx(values["test:balanced-accuracy"])
    assert [each["name"] for each in answers["classes"]] == ["cat", "dog"]
