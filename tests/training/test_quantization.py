"""The int8 form: made, measured, kept or left out, saved, served, refused when damaged."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import serving_artifacts
import torch
from numpy.typing import NDArray
from safetensors import numpy as safetensors_numpy

from container import artifact, int8, model, torch_resnet
from container.errors import UserError
from container.images import Pixels, Preprocessing
from container.serving import classifier, settings
from container.training.decoded import DecodedImages
from container.training.quantization import Int8Form, quantize

CLASSES = 5
PREPROCESSING = Preprocessing.for_image_size(64)
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    weights = serving_artifacts.random_weights("resnet18", CLASSES)
    network: torch.nn.Module = torch_resnet.build("resnet18", CLASSES)
    state = {name: torch.from_numpy(tensor) for name, tensor in weights.items()}
    network.load_state_dict(state, strict=False)
    network.eval()
    return network


def photographs(count: int, seed: int) -> list[Pixels]:
    return [
        np.asarray(serving_artifacts.photograph(seed + number, (80, 73))) for number in range(count)
    ]


def split(images: list[Pixels], labels: NDArray[np.int64] | None = None) -> DecodedImages:
    if labels is None:
        labels = np.zeros(len(images), np.int64)
    return DecodedImages(tuple(images), labels, (), ())


@torch.inference_mode()
def truth(network: torch.nn.Module, images: list[Pixels]) -> NDArray[np.int64]:
    """What the network itself says, so that it is always right."""
    squares = np.stack([PREPROCESSING.from_pixels(image) for image in images])
    inputs = model.normalise(torch.from_numpy(squares), PREPROCESSING)
    labels: NDArray[np.int64] = network(inputs).argmax(1).numpy()
    return labels


@pytest.fixture(scope="module")
def form(network: torch.nn.Module) -> Int8Form:
    validation = photographs(40, 1000)
    made = quantize(
        network,
        "resnet18",
        PREPROCESSING,
        split(photographs(20, 0)),
        split(validation, truth(network, validation)),
        allowed_loss=30,
    )
    assert made is not None
    return made


def save(network: torch.nn.Module, base: Path, form: Int8Form | None) -> Path:
    model.save(
        network,
        base / "model",
        architecture="resnet18",
        classes=[str(number) for number in range(CLASSES)],
        preprocessing=PREPROCESSING,
        hyperparameters={},
        metrics={},
        data={},
        int8=form,
    )
    return base / "model"


def test_the_int8_form_answers_almost_as_the_network_does(form: Int8Form) -> None:
    measured, tensors = form
    assert measured.images == 40
    assert measured.float_accuracy > 0.9
    assert measured.accuracy > 0.7
    weights = [tensor for name, tensor in tensors.items() if name.endswith(".weight")]
    assert {tensor.dtype for tensor in weights} == {np.dtype(np.int8)}
    int8.check("resnet18", CLASSES, tensors)


def test_it_is_served_where_it_is_there_and_can_be_turned_off(
    network: torch.nn.Module, form: Int8Form, tmp_path: Path
) -> None:
    save(network, tmp_path, form)
    answers = {}
    for precision in ("auto", "int8", "float32"):
        given = {"SAGEMAKER_BASE_DIR": str(tmp_path), "KENNEL_PRECISION": precision}
        loaded = classifier.load(settings.parse(given), 0)
        answers[precision] = loaded.probabilities(photographs(1, 5)[0])
        assert loaded.engine.precision == ("float32" if precision == "float32" else "int8")
    assert np.array_equal(answers["auto"], answers["int8"])
    difference = np.abs(answers["auto"] - answers["float32"]).max()
    assert 0 < difference < 0.2, "another arithmetic, and much the same answer"


def test_its_class_activation_maps_are_of_the_scores_that_it_answers_with(
    network: torch.nn.Module, form: Int8Form, tmp_path: Path
) -> None:
    save(network, tmp_path, form)
    served = classifier.load(settings.parse({"SAGEMAKER_BASE_DIR": str(tmp_path)}), 0)
    assert served.engine.precision == "int8"
    for image in photographs(3, 5):
        square, _, explanation = served.explain("cam", image, None)
        scores = served.engine.scores(square[np.newaxis])[0]
        spread = float(scores.max() - scores.min())
        assert explanation.scores == pytest.approx(scores, abs=1e-3 * spread)
        assert explanation.offset is not None
        total = explanation.cells.mean() + explanation.offset
        assert total == pytest.approx(scores[explanation.index], abs=0.02 * spread)
    (tmp_path / "model/int8.safetensors").write_bytes(b"of another model")
    again = classifier.load(settings.parse({"SAGEMAKER_BASE_DIR": str(tmp_path)}), 0)
    assert again.engine.precision != "int8"
    assert again.explain("cam", image, None)[2].cells.shape == (2, 2), "without it, as without it"


def test_a_form_that_loses_too_much_is_left_out(
    network: torch.nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    black: list[Pixels] = [np.zeros((73, 80, 3), np.uint8)] * 4  # no calibration at all
    validation = photographs(40, 1000)
    labelled = split(validation, truth(network, validation))
    assert quantize(network, "resnet18", PREPROCESSING, split(black), labelled, 3) is None
    assert "left out" in capsys.readouterr().out


@pytest.mark.parametrize(("images", "allowed"), [(40, 0.0), (40, 0.5)])
def test_nothing_is_made_when_it_is_off_or_cannot_be_measured(
    network: torch.nn.Module, images: int, allowed: float
) -> None:
    nothing = split(photographs(images, 0))
    assert quantize(network, "resnet18", PREPROCESSING, nothing, nothing, allowed) is None


def test_without_it_int8_is_refused_in_a_sentence_and_an_old_file_is_removed(
    network: torch.nn.Module, form: Int8Form, tmp_path: Path
) -> None:
    directory = save(network, tmp_path, form)
    save(network, tmp_path, None)
    assert not (directory / artifact.INT8_FILE).exists()
    given = {"SAGEMAKER_BASE_DIR": str(tmp_path), "KENNEL_PRECISION": "int8"}
    with pytest.raises(UserError, match="no int8 form"):
        classifier.load(settings.parse(given), 0)


@pytest.mark.parametrize("damage", ["bytes", "missing", "shape", "range", "name"])
def test_a_damaged_form_is_refused_and_the_weights_are_served_instead(
    network: torch.nn.Module, form: Int8Form, tmp_path: Path, damage: str
) -> None:
    measured, tensors = form
    tensors = dict(tensors)
    if damage == "shape":
        tensors["conv1.weight"] = tensors["conv1.weight"][:, :, 1:]
    if damage == "range":
        tensors["input.range"] = np.array([np.nan, 1], np.float32)
    if damage == "name":
        tensors["layer9.range"] = np.array([0, 1], np.float32)
    directory = save(network, tmp_path, (measured, tensors))
    path = directory / artifact.INT8_FILE
    if damage == "bytes":
        path.write_bytes(safetensors_numpy.save({"x": np.zeros(3, np.int8)}))
    if damage == "missing":
        path.unlink()
    given = {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    with pytest.raises(UserError):
        classifier.load(settings.parse(given | {"KENNEL_PRECISION": "int8"}), 0)
    assert classifier.load(settings.parse(given), 0).engine.precision != "int8"


def test_serving_int8_imports_neither_nncf_nor_torch(
    network: torch.nn.Module, form: Int8Form, tmp_path: Path
) -> None:
    save(network, tmp_path, form)
    program = """
import sys
from container.serving import classifier, settings
loaded = classifier.load(settings.parse({"SAGEMAKER_BASE_DIR": sys.argv[1]}), 0)
print(loaded.engine.name, sorted({"torch", "nncf"} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=True,
    )
    assert result.stdout == "openvino int8 []\n"
