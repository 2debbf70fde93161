import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from container import artifact, model, torch_resnet
from container.errors import UserError
from container.images import Preprocessing

PREPROCESSING = Preprocessing.for_image_size(32)


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(1)
    network: torch.nn.Module = torch_resnet.build("resnet18", 2)
    network.to(memory_format=torch.channels_last)
    return network


@pytest.fixture
def directory(tmp_path: Path, network: torch.nn.Module) -> Path:
    model.save(
        network,
        tmp_path / "model",
        architecture="resnet18",
        classes=["cat", "dog"],
        preprocessing=PREPROCESSING,
        hyperparameters={"lr": "0.1"},
        metrics={"test:accuracy": 0.5},
        data={},
    )
    return tmp_path / "model"


def test_every_parameter_survives_saving_and_loading(
    directory: Path, network: torch.nn.Module
) -> None:
    _, weights = artifact.load(directory)
    torch.manual_seed(2)
    other = torch_resnet.build("resnet18", 2)
    other.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()}, strict=False)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_reference_scores_are_the_saved_networks_own(directory: Path) -> None:
    facts, weights = artifact.load(directory)
    network = torch_resnet.build("resnet18", 2).eval()
    network.load_state_dict({n: torch.from_numpy(w) for n, w in weights.items()}, strict=False)
    images = torch.from_numpy(artifact.reference_images(facts.preprocessing))
    with torch.inference_mode():
        scores = network(model.normalise(images, facts.preprocessing)).numpy()
    assert np.allclose(scores, facts.reference_scores, atol=1e-4)


def test_the_facts_are_plain_json(directory: Path) -> None:
    facts = json.loads((directory / "model.json").read_text())
    assert facts["architecture"] == "resnet18"
    assert facts["classes"] == ["cat", "dog"]
    assert facts["preprocessing"]["image_size"] == 32
    assert facts["metrics"] == {"test:accuracy": 0.5}
    assert facts["versions"]["torch"] == torch.__version__


def test_saving_leaves_no_partial_files(directory: Path) -> None:
    assert sorted(path.name for path in directory.iterdir()) == ["model.json", "model.safetensors"]


def test_weights_of_another_training_are_noticed(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match=r"does not belong to model\.json"):
        artifact.load(directory)


def test_missing_weights_are_named(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        artifact.load(directory)


def test_an_empty_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no model in .*Train one first"):
        artifact.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other/9"},
        {"architecture": "vgg16"},
        {"classes": ["cat"]},
        {"classes": None},
        {"preprocessing": {"image_size": 32}},
        {"preprocessing": {"image_size": 64, "resize_size": 32, "mean": [0, 0, 0], "std": [1] * 3}},
        {"reference_scores": [[1.0]]},
        {"metrics": 3},
        {"preprocessing": {"image_size": float("inf"), "resize_size": 32}},
        {"reference_scores": [[10**400]]},
        {"int8": 5},
    ],
)
def test_damaged_facts_are_one_sentence(directory: Path, change: dict[str, object]) -> None:
    path = directory / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"model\.json"):
        artifact.load(directory)


def test_facts_cut_short_are_one_sentence(directory: Path) -> None:
    path = directory / "model.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=r"model\.json cannot be read"):
        artifact.load(directory)


def test_brackets_in_brackets_are_one_sentence(directory: Path) -> None:
    (directory / "model.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"model\.json cannot be read"):
        artifact.load(directory)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn])
def test_tensors_that_numpy_does_not_have_are_one_sentence(
    directory: Path, kind: torch.dtype
) -> None:
    path = directory / "model.safetensors"
    data = safetensors.torch.save({"fc.bias": torch.ones(2, dtype=kind)})
    path.write_bytes(data)
    facts = json.loads((directory / "model.json").read_text())
    digest = {"weights_sha256": hashlib.sha256(data).hexdigest()}
    (directory / "model.json").write_text(json.dumps(facts | digest))
    with pytest.raises(UserError, match=r"model\.safetensors holds tensors of a kind"):
        artifact.load(directory)


@pytest.mark.parametrize("architecture", ["resnet34", "resnet50"])
def test_pretrained_weights_replace_all_but_the_head(architecture: str) -> None:
    source = torch_resnet.build(architecture, 1000)
    network = torch_resnet.build(architecture, 3)
    head = network.fc.weight.clone()
    model.load_backbone(network, source.state_dict())
    assert torch.equal(network.conv1.weight, source.conv1.weight)
    assert torch.equal(network.fc.weight, head)


def test_frozen_layers_are_not_trained_and_keep_their_statistics() -> None:
    network = torch_resnet.build("resnet18", 2)
    expected = {"head": {"fc"}, "layer4": {"layer4", "fc"}, "all": {"conv1", "bn1", "layer1"}}
    for trainable, prefixes in expected.items():
        model.freeze(network, trainable)
        model.train_trainable(network)
        trained = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
        norms = {
            name.split(".")[0]
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.BatchNorm2d) and module.training
        }
        assert prefixes <= trained
        assert norms == trained - {"fc", "conv1"}
    assert len(trained) == 7
