"""Every rule fires on a training that has its illness, and none on healthy ones.

Real trainings of small networks with real smdebug files; nothing is made up.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from debugging_nets import DENSE, Images, ResNet, observe
from torch import Tensor, nn

from container.debugging.catalog import create
from container.debugging.rules import RULES
from container.debugging.rules.rule import MissingError, Rule
from container.debugging.tensors import Tensors

# smdebug is from 2023, and what it brings along is older.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")

HEALTHY_SEEDS = 20


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose time on a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stack(*layers: nn.Module, width: int = 16) -> nn.Module:
    """Layers between flattened pictures and three classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, width), *layers, nn.Linear(width, 3))


def ordinary(directory: Path, **settings: object) -> Tensors:
    """A training in which everything but the settings is as it should be."""
    defaults = {
        "network": ResNet(),
        "train_images": Images.draw(192, 1),
        "validation": Images.draw(96, 2),
    }
    return observe(directory, **{**defaults, **settings})  # type: ignore[arg-type]


def vanishing(directory: Path) -> Tensors:
    # 40 layers of sigmoids: each passes on at most a quarter of its gradient.
    layers = [layer for _ in range(40) for layer in (nn.Linear(16, 16), nn.Sigmoid())]
    return ordinary(directory, network=stack(*layers), epochs=1)


def exploding(directory: Path) -> Tensors:
    return ordinary(directory, network=stack(nn.ReLU(), nn.Linear(16, 16)), lr=1000)


def overfit(directory: Path) -> Tensors:
    # 20 images, no augmentation, labels that cannot be known.
    few = Images(torch.randn(20, 3, 8, 8), torch.randint(0, 3, (20,)))
    network = stack(nn.ReLU(), width=64)
    return ordinary(directory, network=network, train_images=few, epochs=20, batch_size=10)


def overtraining(directory: Path) -> Tensors:
    return ordinary(directory, epochs=25, lr=0.2, train_images=Images.draw(64, 1, noise=0.1))


def standing_still(directory: Path) -> Tensors:
    return ordinary(directory, lr=1e-12, epochs=4)


def poor_start(directory: Path) -> Tensors:
    # Each layer makes its input three times as large.
    layers: list[nn.Module] = []
    for _ in range(5):
        linear = nn.Linear(16, 16)
        nn.init.normal_(linear.weight, std=3 / 4)
        block = nn.Sequential()
        block.add_module("relu", nn.ReLU())
        layers += [linear, block]
    collections = {
        **DENSE,
        "relu_input": {"include_regex": "relu_input", "save_interval": "1", "reductions": "std"},
    }
    return ordinary(directory, network=stack(*layers), collections=collections, lr=1e-4)


def dead(directory: Path) -> Tensors:
    network = ResNet()
    nn.init.constant_(network.bn1.bias, -100)
    return ordinary(directory, network=network)


def jumping(directory: Path) -> Tensors:
    return ordinary(directory, lr=1000)


def rising(directory: Path) -> Tensors:
    return ordinary(directory, lr=20, epochs=6)


def barely_moving(directory: Path) -> Tensors:
    return ordinary(directory, lr=1e-10)


def narrow(directory: Path) -> Tensors:
    network = ResNet()
    nn.init.constant_(network.fc.weight, 0.1)
    return ordinary(directory, network=network, lr=1e-6)


def forgotten(directory: Path) -> Tensors:
    # The optimizer was never given the head.
    network = ResNet()
    optimizer = torch.optim.SGD(network.conv1.parameters(), lr=0.05)
    return ordinary(directory, network=network, optimizer=optimizer)


class Disconnected(ResNet):
    """The first layer's result is multiplied by nothing."""

    def forward(self, images: Tensor) -> Tensor:
        features = 0 * self.relu(self.bn1(self.conv1(images)))
        scores: Tensor = self.fc(features.mean((2, 3)))
        return scores


Disconnected.__name__ = "ResNet"


def unconnected(directory: Path) -> Tensors:
    return ordinary(directory, network=Disconnected())


def imbalanced(directory: Path) -> Tensors:
    images = Images.draw(1500, 1)
    few = torch.arange(1500)[(images.labels != 2) | (torch.arange(1500) % 45 == 2)]
    small = Images(images.images[few], images.labels[few])
    return ordinary(directory, train_images=small, epochs=1)


def unknown_class(directory: Path) -> Tensors:
    # The third class's validation images carry the second's colour.
    validation = Images.draw(1200, 2, noise=0.1)
    kept = torch.cat(
        [torch.where(validation.labels == 2)[0][:100], torch.where(validation.labels < 2)[0]]
    )
    validation = Images(validation.images[kept], validation.labels[kept])
    other = torch.where(validation.labels == 1)[0][:100]
    validation.images[validation.labels == 2] = validation.images[other]
    return ordinary(directory, validation=validation, epochs=4)


def confused(directory: Path) -> Tensors:
    # A third of the labels of two classes are swapped.
    images = Images.draw(300, 1)
    swapped = images.labels.clone()
    swapped[0::9], swapped[1::9] = 1, 0
    return ordinary(directory, validation=Images(images.images, swapped), epochs=4)


def unnormalised(directory: Path) -> Tensors:
    images = Images.draw(576, 1)
    bright = Images((images.images * 40 + 128).clamp(0, 255), images.labels)
    return ordinary(directory, train_images=bright)


def stalled(directory: Path) -> Tensors:
    return ordinary(
        directory, epochs=1, after_step=lambda step: time.sleep(1.2) if step == 3 else None
    )


Illness = tuple[str, dict[str, str], Callable[[Path], Tensors]]

ILLNESSES: list[Illness] = [
    ("VanishingGradient", {}, vanishing),
    ("ExplodingTensor", {}, exploding),
    ("Overfit", {}, overfit),
    ("Overtraining", {}, overtraining),
    ("LossNotDecreasing", {}, standing_still),
    ("LossNotDecreasing", {}, rising),
    ("PoorWeightInitialization", {}, poor_start),
    ("DeadRelu", {}, dead),
    ("WeightUpdateRatio", {}, jumping),
    ("WeightUpdateRatio", {}, barely_moving),
    ("TensorVariance", {"min_threshold": "1e-5", "tensor_regex": "fc.weight"}, narrow),
    ("UnchangedTensor", {}, forgotten),
    ("AllZero", {}, unconnected),
    ("ClassImbalance", {}, imbalanced),
    ("ClassImbalance", {}, unknown_class),
    ("Confusion", {}, confused),
    ("CheckInputImages", {}, unnormalised),
    ("StalledTraining", {"threshold": "1"}, stalled),
]


@pytest.mark.parametrize(
    ("name", "parameters", "illness"), ILLNESSES, ids=[each[2].__name__ for each in ILLNESSES]
)
def test_a_rule_fires_on_its_illness(
    tmp_path: Path, name: str, parameters: dict[str, str], illness: Callable[[Path], Tensors]
) -> None:
    torch.manual_seed(0)
    rule = create(name, parameters)
    assert isinstance(rule, Rule)
    finding = rule.check(illness(tmp_path))
    assert finding is not None
    assert finding.evidence


def test_every_rule_has_an_illness() -> None:
    assert {name for name, *_ in ILLNESSES} == {kind.__name__ for kind in RULES}


@pytest.mark.parametrize("seed", range(HEALTHY_SEEDS))
def test_no_rule_fires_on_a_healthy_training(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    tensors = ordinary(
        tmp_path,
        network=ResNet(channels=8),
        train_images=Images.draw(510, 1000 + seed, noise=2.0),
        validation=Images.draw(96, 2000 + seed, noise=2.0),
        epochs=4,
    )
    fired = {}
    for kind in RULES:
        # AWS gives this rule no thresholds; these are its documentation's examples.
        limits = {
            "max_threshold": "10",
            "min_threshold": "1e-5",
            "tensor_regex": "^ResNet_(conv1|fc)",
        }
        rule = create(kind.__name__, limits if kind.__name__ == "TensorVariance" else {})
        assert isinstance(rule, Rule)
        finding = rule.check(tensors)
        if finding:
            fired[rule.name] = finding
    assert not fired


@pytest.mark.parametrize("kind", RULES, ids=[kind.__name__ for kind in RULES])
def test_a_rule_says_what_it_misses(tmp_path: Path, kind: type[Rule]) -> None:
    with pytest.raises(MissingError):
        kind().check(Tensors(tmp_path))
