"""Explanations over HTTP: what they say, in which form, and what is refused."""

import base64
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import planted_evidence
import pytest
import serving_artifacts
import serving_requests as bodies
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opt_ml import ROOT
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from planted_evidence import FRUITS, RADIUS, anywhere, scene
from serving_artifacts import CLASSES, encoded, npy, photograph

from container import images
from container.images import Preprocessing
from container.serving import classifier, settings
from container.serving.explanation import deadline, explainer, picture, view
from container.serving.explanation.explanation import Explanation
from container.serving.explanation.occlusion import occlusion
from container.serving.inputs.items import OUT_OF_TIME
from container.serving.invocation import Pipeline
from container.serving.models import memory

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
CAM = "application/json; explain=cam"


@pytest.fixture(scope="module")
def fruits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model of a network lies that knows lemons, limes and plums."""
    base = tmp_path_factory.mktemp("fruits")
    planted_evidence.train(base / "model")
    return base


@pytest.fixture(scope="module")
def client(fruits: Path) -> FlaskClient:
    environment = {"SAGEMAKER_BASE_DIR": str(fruits), "KENNEL_GRADIENTS": "on"}
    model = classifier.load(settings.parse(environment), 0)
    return serving_artifacts.client(model, **environment)


@pytest.fixture(scope="module")
def random_client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A server of a network with random weights, whose classes have difficult names."""
    base = tmp_path_factory.mktemp("random")
    serving_artifacts.write(base / "model", image_size=96)
    return serving_artifacts.client(
        classifier.load(settings.parse({"SAGEMAKER_BASE_DIR": str(base)}), 0)
    )


def ask(client: FlaskClient, body: bytes, accept: str = CAM, **headers: str) -> Any:
    kind = "application/x-npy" if body.startswith(b"\x93NUMPY") else "image/png"
    response = client.post(
        "/invocations", data=body, content_type=kind, headers={"Accept": accept, **headers}
    )
    assert response.status_code == 200, response.text
    return response.get_json()


def refusal(client: FlaskClient, accept: str, body: bytes | None = None) -> tuple[int, str]:
    data = body or encoded(photograph(), "PNG")
    kind = "application/x-npy" if data.startswith(b"\x93NUMPY") else "image/png"
    response = client.post("/invocations", data=data, content_type=kind, headers={"Accept": accept})
    return response.status_code, response.get_json()["error"]


@pytest.mark.parametrize("method", ["cam", "occlusion", "integrated-gradients"])
def test_the_map_s_peak_lies_on_the_planted_evidence(client: FlaskClient, method: str) -> None:
    generator = np.random.default_rng(5)
    for number in range(9 if method == "cam" else 3):
        fruit, place = list(FRUITS)[number % 3], anywhere(generator)
        image = encoded(Image.fromarray(scene(generator, fruit, place)), "PNG")
        found = ask(client, image, f"application/json; explain={method}")["explanation"]
        assert found["method"] == method
        assert found["label"] == fruit, "the network itself must have learnt its classes"
        cells = np.array(found["map"])
        assert list(cells.shape) == found["shape"]
        row, column = np.unravel_index(cells.argmax(), cells.shape)
        peak = (np.array([column, row]) + 0.5) / len(cells)
        # The centre of the cell that the ball's nearest point lies in, and half a cell more:
        # a convolution's cell sees beyond its edges.
        assert np.hypot(*(peak - place)) < RADIUS + np.sqrt(2) * 0.5 / len(cells)


def test_two_fruits_are_told_apart_by_the_class_that_is_asked_for(client: FlaskClient) -> None:
    generator = np.random.default_rng(2)
    image = scene(generator, "lemon", (0.2, 0.25))
    other = scene(generator, "plum", (0.8, 0.75))
    image[64:, 64:] = other[64:, 64:]
    for fruit, half in (("lemon", [0, 0]), ("plum", [1, 1])):
        accept = f"application/json; explain=cam; class={fruit}"
        found = ask(client, encoded(Image.fromarray(image), "PNG"), accept)["explanation"]
        cells = np.array(found["map"])
        assert found["label"] == fruit
        row, column = np.unravel_index(cells.argmax(), cells.shape)
        assert [2 * row // len(cells), 2 * column // len(cells)] == half


def test_a_class_activation_map_adds_up_to_the_score(random_client: FlaskClient) -> None:
    for seed in range(3):
        found = ask(random_client, encoded(photograph(seed), "PNG"))["explanation"]
        low, high = found["range"]
        cells = low + np.array(found["map"]) * (high - low)
        assert found["shape"] == [3, 3]
        assert cells.mean() + found["offset"] == pytest.approx(
            found["score"], abs=1e-4 * (high - low) + 0.02 * abs(found["score"])
        )
        assert np.array(found["map"]).min() == 0
        assert np.array(found["map"]).max() == 1


def test_integrated_gradients_add_up_to_the_change_of_the_score(client: FlaskClient) -> None:
    image = scene(np.random.default_rng(3), "lime", (0.5, 0.5))
    accept = "application/json; explain=integrated-gradients"
    found = ask(client, encoded(Image.fromarray(image), "PNG"), accept)["explanation"]
    low, high = found["range"]
    cells = low + np.array(found["map"]) * (high - low)
    change = found["score"] - found["offset"]
    assert cells.mean() == pytest.approx(change, rel=0.15)


def test_the_prediction_beside_it_is_the_plain_one(random_client: FlaskClient) -> None:
    image = encoded(photograph(), "PNG")
    for parameters in ("", "; verbose=true", "; top_k=2"):
        plain = ask(random_client, image, f"application/json{parameters}")
        explained = ask(random_client, image, f"{CAM}{parameters}")
        if parameters:
            assert [entry["label"] for entry in explained["predictions"]] == [
                entry["label"] for entry in plain
            ]
            assert explained["explanation"]["label"] == plain[0]["label"]
        else:
            assert explained["predictions"] == pytest.approx(plain, abs=0.02)


@pytest.mark.parametrize(
    ("headers", "label"),
    [
        ({"Accept": f'{CAM}; class="with, comma"'}, "with, comma"),
        ({"Accept": f"{CAM}; class=gr%C3%B6%C3%9Fer"}, "größer"),
        ({ATTRIBUTES: "explain=cam,class=last"}, "last"),
        ({ATTRIBUTES: 'trace 12; explain=cam, class="with, comma"'}, "with, comma"),
        ({ATTRIBUTES: "class=with%20%22quotes%22", "Accept": CAM}, 'with "quotes"'),
    ],
)
def test_any_class_can_be_asked_for(
    random_client: FlaskClient, headers: dict[str, str], label: str
) -> None:
    response = random_client.post(
        "/invocations",
        data=encoded(photograph()),
        content_type="image/jpeg",
        headers=headers,
    )
    found = response.get_json()
    assert found["explanation"]["label"] == label
    share = found["predictions"][CLASSES.index(label)]
    assert found["explanation"]["probability"] == pytest.approx(share, abs=1e-6)


def test_each_image_of_several_has_its_own(random_client: FlaskClient) -> None:
    images = [np.asarray(photograph(seed)) for seed in range(3)]
    several = ask(random_client, npy(np.stack(images)))
    for image, answer in zip(images, several, strict=True):
        assert answer == ask(random_client, npy(image))


def test_what_of_several_cannot_be_explained_is_an_error_in_its_place(
    random_client: FlaskClient,
) -> None:
    image = encoded(photograph(), "PNG")
    response = random_client.post(
        "/invocations",
        data=bodies.zipped([("größer.png", image), ("schräg.png", b"no image")]),
        content_type="application/zip",
        headers={"Accept": "application/jsonlines; explain=cam"},
    )
    explained, error = map(json.loads, response.text.splitlines())
    assert explained == {"name": "größer.png", **ask(random_client, image)}
    assert error.keys() == {"name", "error"}
    assert error["name"] == "schräg.png"
    assert "not an image" in error["error"]


def test_images_whose_time_is_used_up_are_errors_in_their_place() -> None:
    late = serving_artifacts.serving_client(Pipeline(serving_artifacts.loaded(), seconds=-1))
    answers = ask(late, npy(np.stack([np.asarray(photograph(seed)) for seed in range(2)])))
    assert answers == [{"error": OUT_OF_TIME}] * 2


def test_the_overlay_is_a_picture_of_the_whole_image(random_client: FlaskClient) -> None:
    image = photograph(size=(300, 200))
    response = random_client.post(
        "/invocations",
        data=encoded(image),
        content_type="image/jpeg",
        headers={"Accept": "image/png"},
    )
    assert response.mimetype == "image/png"
    with Image.open(io.BytesIO(response.data)) as overlay:
        assert overlay.format == "PNG"
        assert overlay.size == (384, 256)
        pixels = np.asarray(overlay.convert("L")).astype(float)
    grey = np.asarray(image.convert("L").resize((384, 256))).astype(float)
    # Left and right of the square that the network sees it is darker.
    assert pixels[:, :60].mean() < 0.6 * grey[:, :60].mean()


def test_the_layer_and_the_thumbnail_are_pictures(random_client: FlaskClient) -> None:
    answer = ask(random_client, encoded(photograph(), "PNG"), f"{CAM}; layer=true; thumbnail=64")
    for name, side in (("layer", picture.LAYER_SIDE), ("thumbnail", 64)):
        head, _, data = answer["explanation"][name].partition(",")
        assert head.endswith(";base64")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (side, side)


@pytest.mark.parametrize("ground", [0, 255])
def test_the_layer_is_seen_on_black_and_on_white(ground: int) -> None:
    cells = np.zeros((7, 7), np.float32)
    cells[3, 3] = 1
    explanation = Explanation("cam", np.zeros(2, np.float32), 0, cells, 0.0)
    image = np.full((224, 224, 3), ground, np.uint8)
    png = picture.overlay(image, Preprocessing(224, 224), explanation)
    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int)
    corner, peak = grey[:8, :8].mean(), grey[120:136, 120:136].mean()
    assert abs(peak - corner) > 25 or ground == 255
    line = grey[128]
    # The line around the peak has white beside black.
    assert max(abs(np.diff(line))) > 80


def test_lightness_of_the_colours_rises_evenly() -> None:
    shades = picture.colours(np.linspace(0, 1, 64, dtype=np.float32)).astype(float)
    light = shades @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) > 0).all()


def test_colours_are_matplotlib_s_inferno() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    values = np.linspace(0, 1, 101, dtype=np.float32)
    theirs = 255 * matplotlib.colormaps["inferno"](values)[:, :3]
    assert np.abs(picture.colours(values) - theirs).max() < 8


@hypothesis_settings(deadline=None, max_examples=40)
@given(st.integers(40, 600), st.integers(40, 600), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_the_box_says_where_the_network_looked(
    width: int, height: int, across: float, down: float
) -> None:
    """A white spot is found in the network's square where the box says that it must be."""
    preprocessing = Preprocessing(image_size=112, resize_size=128)
    box = view.seen(width, height, preprocessing)
    x, y = box.left + across * box.width, box.top + down * box.height
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot((columns + 0.5 - x) / box.width, (rows + 0.5 - y) / box.height)
    image = np.repeat((255 * np.exp(-((distance / 0.04) ** 2)))[..., np.newaxis], 3, axis=2)
    square = preprocessing.from_pixels(image.astype(np.uint8)).astype(float)[..., 0]
    rows, columns = np.mgrid[:112, :112]
    found = np.array([(columns + 0.5) * square, (rows + 0.5) * square]).sum((1, 2)) / square.sum()
    assert found / 112 == pytest.approx([across, down], abs=0.02)


def test_the_box_is_that_of_the_upright_image(random_client: FlaskClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(photograph(size=(300, 200)), "JPEG", exif=exif)
    response = random_client.post(
        "/invocations", data=turned, content_type="image/jpeg", headers={"Accept": CAM}
    )
    found = response.get_json()["explanation"]
    assert found["image"] == {"width": 200, "height": 300}
    assert found["box"]["top"] > found["box"]["left"]


def late_exif() -> bytes:
    """A PNG that says after its pixels that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    early = encoded(photograph(size=(300, 200)), "PNG", exif=exif)
    start = early.index(b"eXIf") - 4
    chunk = early[start : start + 12 + int.from_bytes(early[start : start + 4], "big")]
    return early.replace(chunk, b"")[:-12] + chunk + early[-12:]


def test_the_size_is_known_from_the_one_decoding_that_has_its_turn(
    random_client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[bool] = []
    load = PngImageFile.load_end

    def counted(image: PngImageFile) -> None:
        loads.append(images._one_huge_image.locked())
        load(image)

    monkeypatch.setattr(PngImageFile, "load_end", counted)
    monkeypatch.setattr(images, "HUGE_PIXELS", 100)
    found = ask(random_client, late_exif())["explanation"]
    assert found["image"] == {"width": 200, "height": 300}
    assert loads == [True]
    overlay = random_client.post(
        "/invocations",
        data=late_exif(),
        content_type="image/png",
        headers={"Accept": "image/png"},
    )
    with Image.open(io.BytesIO(overlay.data)) as shown:
        assert shown.size == (256, 384)
    assert loads == [True] * 3


SEVERAL = npy(np.zeros((2, 40, 40, 3), np.uint8))
REFUSALS: list[tuple[str, bytes | None, int, str]] = [
    ("application/json; explain=lime", None, 400, "cam, occlusion, integrated-gradients"),
    ("application/json; explain=cam; class=cat", None, 400, "no class 'cat'"),
    ("application/json; explain=cam; thumbnail=9", None, 400, "thumbnail"),
    ("application/json; explain=cam; thumbnail=99999", None, 400, "thumbnail"),
    ("application/json; explain=occlusion", SEVERAL, 400, "one image"),
    ("image/png", SEVERAL, 406, "one image"),
    ("image/png; explain=false", None, 400, "explain=false"),
    ("text/csv; explain=cam", None, 400, "text/csv"),
    ("application/json; explain=integrated-gradients", None, 501, "KENNEL_GRADIENTS=on"),
    (CAM, b"no image", 400, "not an image"),
]


@pytest.mark.parametrize(("accept", "body", "status", "words"), REFUSALS)
def test_what_cannot_be_explained_is_said_in_a_sentence(
    random_client: FlaskClient, accept: str, body: bytes | None, status: int, words: str
) -> None:
    code, sentence = refusal(random_client, accept, body)
    assert code == status
    assert words in sentence


def test_while_an_image_is_explained_slowly_another_is_told_to_come_again(
    random_client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner: list[tuple[int, str]] = []

    def busy(*given: Any) -> Explanation:
        inner.append(refusal(random_client, "application/json; explain=occlusion"))
        return occlusion(*given)

    monkeypatch.setattr(explainer, "occlusion", busy)
    ask(random_client, encoded(photograph(), "PNG"), "application/json; explain=occlusion")
    assert inner == [(503, "Another image is being explained; try again.")]


def test_occlusion_shows_by_how_much_the_score_falls_where_the_image_is_hidden() -> None:
    preprocessing = Preprocessing(image_size=28, resize_size=32)
    image = np.zeros((28, 28, 3), np.uint8)
    image[4:8, 8:12] = 255

    def brightness(images: Any) -> Any:
        # Kennel's neutral grey counts as black, so that only what is hidden changes the score.
        seen = (images == 255).all(-1).mean((1, 2))
        return np.stack([np.full(len(images), 0.5), 100 * seen], -1).astype(np.float32)

    found = occlusion(brightness, image, preprocessing, None, np.inf)
    assert found.index == 1
    assert found.scores.tolist() == pytest.approx([0.5, 100 * 16 / 28**2])
    # The bright cell is hidden by all four of its patches, its neighbours by what they share.
    expected = np.zeros((7, 7))
    expected[0:3, 1:4] = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]) * found.scores[1]
    assert found.cells == pytest.approx(expected)


def test_what_takes_too_long_is_given_up(
    random_client: FlaskClient, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "SECONDS", -1.0)
    assert refusal(random_client, "application/json; explain=occlusion")[0] == 503
    status, sentence = refusal(client, "application/json; explain=integrated-gradients")
    assert status == 503
    assert "explain=cam" in sentence


def test_an_explanation_that_would_not_fit_into_memory_is_refused_and_predictions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_artifacts.write(tmp_path / "model")
    model = classifier.load(settings.parse({}), 0, tmp_path / "model")
    client = serving_artifacts.client(model)
    monkeypatch.setattr(memory, "available", lambda: 10 * 2**20)
    refused = client.post(
        "/invocations",
        data=encoded(photograph()),
        headers={"Content-Type": "image/jpeg", "Accept": "application/json; explain=cam"},
    )
    assert refused.status_code == 503
    assert "10 MB are left" in refused.get_json()["error"]
    weights = (tmp_path / "model/model.safetensors").stat().st_size
    assert f"about {int(2.5 * weights) // 2**20} MB" in refused.get_json()["error"]
    plain = client.post("/invocations", data=encoded(photograph()), content_type="image/jpeg")
    assert plain.status_code == 200
    monkeypatch.setattr(memory, "available", lambda: None)
    again = client.post(
        "/invocations",
        data=encoded(photograph()),
        headers={"Content-Type": "image/jpeg", "Accept": "application/json; explain=cam"},
    )
    assert again.status_code == 200, "the next one tries again"


def test_a_model_that_was_replaced_on_disk_is_not_mistaken_for_the_one_that_is_served(
    tmp_path: Path,
) -> None:
    serving_artifacts.write(tmp_path / "model")
    served = serving_artifacts.client(
        classifier.load(settings.parse({"SAGEMAKER_BASE_DIR": str(tmp_path)}), 0)
    )
    serving_artifacts.write(tmp_path / "model", seed=1)
    status, sentence = refusal(served, CAM)
    assert status == 503
    assert "not the one that is served any more" in sentence


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_where_the_model_s_files_have_gone_explanations_are_503_and_predictions_go_on(
    tmp_path: Path, name: str
) -> None:
    serving_artifacts.write(tmp_path / "model")
    served = serving_artifacts.client(
        classifier.load(settings.parse({"SAGEMAKER_BASE_DIR": str(tmp_path)}), 0)
    )
    (tmp_path / "model" / name).unlink()
    status, sentence = refusal(served, CAM)
    assert status == 503
    assert "model's files" in sentence
    assert ask(served, encoded(photograph(), "PNG"), "application/json")


def test_torch_is_not_loaded_where_it_would_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_artifacts.write(tmp_path / "model")
    given = settings.parse({"KENNEL_GRADIENTS": "on"})
    served = serving_artifacts.client(classifier.load(given, 0, tmp_path / "model"))
    accept = "application/json; explain=integrated-gradients"
    monkeypatch.setattr(memory, "available", lambda: 300 * 2**20)
    importlib.import_module("torch")
    assert ask(served, encoded(photograph(), "PNG"), accept), "it is loaded already"
    served = serving_artifacts.client(classifier.load(given, 0, tmp_path / "model"))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    status, sentence = refusal(served, accept)
    assert status == 503
    assert "300 MB are left" in sentence


def test_an_explanation_needs_no_torch(tmp_path: Path) -> None:
    serving_artifacts.write(tmp_path / "model")
    program = (
        "import sys, json, serving_artifacts as s\n"
        "from container.serving import classifier, settings\n"
        "model = classifier.load(settings.parse({'SAGEMAKER_BASE_DIR': sys.argv[1]}), 0)\n"
        "image = s.encoded(s.photograph())\n"
        "for method in ('cam', 'occlusion'):\n"
        "    model.explain(method, image, None)\n"
        "print(json.dumps(sorted({'torch', 'captum', 'matplotlib'} & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT}/tests/support", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []
