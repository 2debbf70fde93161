"""Engines against torch, and models that must be refused."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import serving_artifacts
import torch
from serving_artifacts import CLASSES

from container import artifact, model, resnet, torch_resnet
from container.errors import UserError
from container.hyperparameters import RESNETS
from container.serving import classifier, settings
from container.serving.engines import engine
from container.serving.engines.openvino_engine import OpenVinoEngine
from container.serving.engines.torch_engine import TorchEngine

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("architecture", RESNETS)
def test_the_layout_is_torchvision_s(architecture: str) -> None:
    with torch.device("meta"):
        network = torch_resnet.build(architecture, 7)
    state = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert resnet.layout(architecture).shapes(7) == {
        name: shape for name, shape in state.items() if name not in counters
    }


def test_the_torch_engine_is_the_trained_network() -> None:
    weights = serving_artifacts.random_weights("resnet18", len(CLASSES))
    facts = serving_artifacts.facts("resnet18", 32)
    images = artifact.reference_images(facts.preprocessing)
    network = torch_resnet.build("resnet18", len(CLASSES)).eval()
    state = {name: torch.from_numpy(tensor) for name, tensor in weights.items()}
    network.load_state_dict(state, strict=False)
    with torch.inference_mode():
        inputs = model.normalise(torch.from_numpy(images), facts.preprocessing)
        truth = network(inputs).numpy()
    scores = TorchEngine(facts, dict(weights), "float32", 0, 2).scores(images)
    assert np.abs(scores - truth).max() < 1e-4 * np.abs(truth).max()


@pytest.mark.parametrize("architecture", RESNETS)
def test_openvino_repeats_torch_s_answers(architecture: str) -> None:
    weights = serving_artifacts.random_weights(architecture, len(CLASSES))
    facts = serving_artifacts.facts(architecture, 32)
    images = artifact.reference_images(facts.preprocessing)
    truth = TorchEngine(facts, dict(weights), "float32", 0, 2).scores(images)
    largest = np.abs(truth).max()
    assert np.abs(truth[0] - truth[1]).max() > 0.01 * largest, "the images must differ"
    exact = OpenVinoEngine(facts, dict(weights), "float32", 2)
    assert exact.precision == "float32"
    assert np.abs(exact.scores(images) - truth).max() < 1e-4 * largest
    fast = OpenVinoEngine(facts, dict(weights), "auto", 2)
    assert np.abs(fast.scores(images) - truth).max() < engine.TOLERANCES["bfloat16"] * largest


@pytest.mark.parametrize("processors", [1, 2, 8])
def test_alone_or_in_a_crowd_the_answer_is_the_same(processors: int) -> None:
    weights = serving_artifacts.random_weights("resnet18", len(CLASSES))
    facts = serving_artifacts.facts("resnet18", 32)
    network = OpenVinoEngine(facts, weights, "float32", processors)
    images = artifact.reference_images(facts.preprocessing)
    alone = network.scores(images, 1)
    for present in (2, 3, 100):
        assert np.allclose(network.scores(images, present), alone, rtol=1e-4, atol=1e-4)
    assert network.lanes == processors + 1, "one is decoded while all compute"
    assert not weights, "the arrays are held once"


def test_torch_s_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = serving_artifacts.facts("resnet18", 32)
    weights = serving_artifacts.random_weights("resnet18", len(CLASSES))
    in_torch = TorchEngine(facts, weights, "float32", 0, 2)
    images = np.repeat(artifact.reference_images(facts.preprocessing), 3, axis=0)
    whole = in_torch.scores(images)
    monkeypatch.setattr("container.serving.engines.torch_engine.BATCH", 4)
    assert np.allclose(in_torch.scores(images), whole, atol=1e-4)


def load(base: Path, **environment: str) -> classifier.Classifier:
    return classifier.load(settings.parse({"SAGEMAKER_BASE_DIR": str(base), **environment}), 0)


def refusal(base: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(base)
    return str(caught.value)


def change_facts(base: Path, **changes: object) -> None:
    path = base / "model/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["openvino", "torch"])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_an_artifact_is_loaded_by_either_engine(tmp_path: Path, name: str, precision: str) -> None:
    serving_artifacts.write(tmp_path / "model")
    loaded = load(tmp_path, KENNEL_ENGINE=name, KENNEL_PRECISION=precision)
    assert loaded.engine.name.startswith(name)
    assert loaded.probabilities(np.zeros((40, 40, 3), np.uint8)).sum() == pytest.approx(1)


def test_another_model_s_reference_scores_are_refused(tmp_path: Path) -> None:
    facts = serving_artifacts.write(tmp_path / "model")
    wrong = [[score + 1 for score in row] for row in facts.reference_scores]
    change_facts(tmp_path, reference_scores=wrong)
    assert "does not repeat the answers recorded in training" in refusal(tmp_path)


def test_the_form_that_is_used_under_load_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_artifacts.write(tmp_path / "model")
    right = OpenVinoEngine.scores

    def wrong_in_a_crowd(self: OpenVinoEngine, images: engine.Images, present: int = 1) -> object:
        return right(self, images, present) + (present > 1)

    monkeypatch.setattr(OpenVinoEngine, "scores", wrong_in_a_crowd)
    assert "does not repeat the answers recorded in training" in refusal(tmp_path)


@pytest.mark.parametrize("scores", [[], [[0.0] * 5], [[float("nan")] * 5] * 2])
def test_missing_reference_scores_are_refused(tmp_path: Path, scores: list[list[float]]) -> None:
    serving_artifacts.write(tmp_path / "model")
    change_facts(tmp_path, reference_scores=scores)
    assert refusal(tmp_path)


def test_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    facts = serving_artifacts.facts("resnet18", 32)
    facts = dataclasses.replace(facts, reference_scores=((0.0,) * 5,) * 2)
    weights = serving_artifacts.random_weights("resnet18", 5)
    del weights["layer3.1.bn2.running_mean"]
    artifact.save(tmp_path / "model", weights, facts)
    assert "layer3.1.bn2.running_mean" in refusal(tmp_path)


def test_another_architecture_s_weights_are_refused(tmp_path: Path) -> None:
    facts = serving_artifacts.facts("resnet50", 32)
    facts = dataclasses.replace(facts, reference_scores=((0.0,) * 5,) * 2)
    artifact.save(tmp_path / "model", serving_artifacts.random_weights("resnet18", 5), facts)
    assert "not that of a resnet50" in refusal(tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    serving_artifacts.write(tmp_path / "model")
    path = tmp_path / "model/model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "SHA-256" in refusal(tmp_path)


def test_a_cpu_host_imports_neither_torch_nor_what_only_training_needs(tmp_path: Path) -> None:
    serving_artifacts.write(tmp_path / "model")
    program = """
import sys
from container.serving import app, classifier, server, settings
classifier.load(settings.parse({"SAGEMAKER_BASE_DIR": sys.argv[1]}), 0)
foreign = {"torch", "torchvision", "smdebug", "sagemaker_training", "boto3", "openvino_telemetry"}
print(sorted(foreign & set(sys.modules)), "container.training" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=True,
    )
    assert result.stdout == "[] False\n"
