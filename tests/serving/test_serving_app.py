"""The HTTP contract, in process: every content type, form of answer, and error."""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
import serving_artifacts
from PIL import Image
from serving_artifacts import CLASSES, encoded, npy, photograph
from werkzeug.test import TestResponse

from container.serving import settings
from container.serving.app import create_app
from container.serving.classifier import Classifier
from container.serving.engines.engine import Engine
from container.serving.fair_threads import FairThreads
from container.serving.models.loading import Loading

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def post(
    body: bytes, content_type: str | None = "image/jpeg", headers: dict[str, str] | None = None
) -> TestResponse:
    client = serving_artifacts.client()
    return client.post("/invocations", data=body, content_type=content_type, headers=headers)


def error(response: TestResponse) -> str:
    assert response.mimetype == "application/json"
    content = response.get_json()
    assert list(content) == ["error"]
    assert content["error"].endswith((".", "'"))
    return str(content["error"])


def expected(image: Image.Image) -> list[float]:
    model = serving_artifacts.loaded()
    return [float(value) for value in model.probabilities(np.asarray(image))]


def test_ping_is_503_until_the_model_has_answered() -> None:
    loading = Loading(serving_artifacts.pipeline, lambda error: None)
    client = create_app(loading, settings.parse({})).test_client()
    assert client.get("/ping").status_code == 503
    refused = client.post("/invocations", data=b"x", content_type="image/jpeg")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "loading" in error(refused)
    loading.start()
    loading.join()
    ready = client.get("/ping")
    assert ready.status_code == 200
    assert len(ready.data) < 200


def test_a_loading_that_ends_in_any_way_is_told() -> None:
    def load() -> Any:
        raise SystemExit(3)

    told: list[BaseException] = []
    loading = Loading(load, told.append)
    loading.start()
    loading.join()
    assert [type(error) for error in told] == [SystemExit]


@pytest.mark.parametrize(
    ("content_type", "image_format"),
    [
        ("image/jpeg", "JPEG"),
        ("image/jpg", "JPEG"),
        ("image/png", "PNG"),
        ("image/webp", "WEBP"),
        ("image/bmp", "BMP"),
        ("image/gif", "GIF"),
        ("image/tiff", "TIFF"),
        ("application/x-image", "PNG"),
        ("image/png", "JPEG"),
        ("image/jpeg; charset=binary", "JPEG"),
        ("IMAGE/JPEG;q=1", "JPEG"),
    ],
)
def test_one_score_per_class(content_type: str, image_format: str) -> None:
    image = photograph()
    response = post(encoded(image, image_format), content_type)
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    scores = response.get_json()
    assert len(scores) == len(CLASSES)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    # Lossy formats change the pixels a little, and a random network's answers with them.
    close = 0.005 if image_format in ("PNG", "BMP", "TIFF") else 0.2
    assert scores == pytest.approx(expected(image), abs=close)


def test_images_get_their_own_answers() -> None:
    answers = [post(encoded(photograph(seed))).get_json() for seed in range(4)]
    assert len({np.argmax(answer) for answer in answers} | {tuple(a) for a in answers}) > 4


def test_npy_of_one_image() -> None:
    image = photograph()
    response = post(npy(np.asarray(image)), "application/x-npy; charset=utf-8")
    assert response.get_json() == pytest.approx(expected(image), abs=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_npy_of_several_images(count: int) -> None:
    images = [photograph(seed) for seed in range(count)]
    response = post(npy(np.stack([np.asarray(image) for image in images])), "application/x-npy")
    assert response.status_code == 200
    answers = response.get_json()
    assert len(answers) == count
    for answer, image in zip(answers, images, strict=True):
        assert answer == pytest.approx(expected(image), abs=1e-6)


def test_npy_in_fortran_order() -> None:
    image = photograph()
    response = post(npy(np.asfortranarray(np.asarray(image))), "application/x-npy")
    assert response.get_json() == pytest.approx(expected(image), abs=1e-6)


@pytest.mark.parametrize(("version", "status"), [((1, 0), 200), ((2, 0), 200), ((3, 0), 400)])
def test_npy_of_any_version_that_an_image_may_have(version: tuple[int, int], status: int) -> None:
    image, buffer = photograph(), io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(image), version)  # type: ignore[no-untyped-call]
    response = post(buffer.getvalue(), "application/x-npy")
    assert response.status_code == status
    if status == 200:
        assert response.get_json() == pytest.approx(expected(image), abs=1e-6)


VERBOSE: list[tuple[dict[str, str], int]] = [
    ({"Accept": "application/json; verbose=true"}, 5),
    ({"Accept": "application/json;verbose=TRUE;charset=utf-8"}, 5),
    ({ATTRIBUTES: "verbose=true"}, 5),
    ({ATTRIBUTES: "top_k=2"}, 2),
    ({ATTRIBUTES: "trace c000b4f9-df62, top_k = 2; verbose=false"}, 2),
    ({ATTRIBUTES: "top_k=999"}, 5),
    ({ATTRIBUTES: "top_k=2", "Accept": "application/json; verbose=true"}, 2),
    ({"Accept": "application/json; top_k=1"}, 1),
    ({"Accept": "*/*; top_k=2"}, 2),
    ({"Accept": "application/*; top_k=2"}, 2),
    ({"Accept": "*/*; top_k=2, application/json; top_k=3"}, 3),
    ({"Accept": "image/webp, application/*; top_k=4, */*; q=0.1; top_k=2"}, 4),
]


@pytest.mark.parametrize(("headers", "length"), VERBOSE)
def test_ranked_labels(headers: dict[str, str], length: int) -> None:
    image = photograph()
    response = post(encoded(image, "PNG"), headers=headers)
    assert response.mimetype == "application/json"
    answer = response.get_json()
    ranked = sorted(zip(expected(image), CLASSES, strict=True), reverse=True)[:length]
    assert [entry["label"] for entry in answer] == [label for _, label in ranked]
    assert [entry["probability"] for entry in answer] == pytest.approx(
        [probability for probability, _ in ranked], abs=1e-6
    )


def test_ranked_labels_of_several_images() -> None:
    batch = npy(np.stack([np.asarray(photograph(seed)) for seed in range(2)]))
    answer = post(batch, "application/x-npy", {ATTRIBUTES: "top_k=2"}).get_json()
    assert [len(entries) for entries in answer] == [2, 2]


@pytest.mark.parametrize("attributes", ["verbose=false", "", "request-id 12", "top=3", "a=b=c,,"])
def test_other_custom_attributes_change_nothing(attributes: str) -> None:
    plain = post(encoded(photograph())).get_json()
    assert post(encoded(photograph()), headers={ATTRIBUTES: attributes}).get_json() == plain


def test_csv_of_scores() -> None:
    images = [photograph(seed) for seed in range(2)]
    batch = npy(np.stack([np.asarray(image) for image in images]))
    response = post(batch, "application/x-npy", {"Accept": "text/csv"})
    assert response.content_type == "text/csv; charset=utf-8"
    rows = [[float(value) for value in row] for row in csv.reader(io.StringIO(response.text))]
    assert rows[0] == pytest.approx(expected(images[0]), abs=1e-6)
    assert rows[1] == pytest.approx(expected(images[1]), abs=1e-6)


def test_csv_of_ranked_labels() -> None:
    response = post(encoded(photograph(), "PNG"), headers={"Accept": "text/csv; verbose=true"})
    rows = list(csv.reader(io.StringIO(response.text)))
    assert "\r" not in response.text
    assert {label for label, _ in rows} == set(CLASSES)
    values = [float(value) for _, value in rows]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv, application/json;q=0.5", "text/csv"),
        ("text/csv;q=0.4, application/json;q=0.5", "application/json"),
        ("application/json;q=0, */*", "text/csv"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
    ],
)
def test_accept(accept: str, media_type: str) -> None:
    response = post(encoded(photograph()), headers={"Accept": accept})
    assert response.status_code == 200
    assert response.mimetype == media_type


@pytest.mark.parametrize("accept", ["image/svg+xml", "text/html", "*/*;q=0", "nonsense"])
def test_an_answer_that_we_cannot_give_is_406(accept: str) -> None:
    response = post(encoded(photograph()), headers={"Accept": accept})
    assert response.status_code == 406
    assert "application/json" in error(response)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/xml", "image/heic"])
def test_another_content_type_is_415(content_type: str | None) -> None:
    response = post(encoded(photograph()), content_type)
    assert response.status_code == 415
    assert "image/jpeg" in error(response)
    assert "application/x-npy" in error(response)


JPEG = encoded(photograph())
ARRAY = np.asarray(photograph())
BAD_REQUESTS: dict[str, tuple[bytes, str, dict[str, str], str]] = {
    "empty": (b"", "image/jpeg", {}, "no body"),
    "empty array": (b"", "application/x-npy", {}, "no body"),
    "text": (b"not an image", "image/jpeg", {}, "not an image"),
    "truncated": (JPEG[: len(JPEG) // 2], "image/jpeg", {}, "damaged"),
    "no npy": (JPEG, "application/x-npy", {}, "numpy.save"),
    "npz": (b"PK\x03\x04" + bytes(100), "application/x-npy", {}, "numpy.save"),
    "pickle": (npy(np.array([{}])), "application/x-npy", {}, "uint8"),
    "floats": (npy(ARRAY.astype(np.float32)), "application/x-npy", {}, "float32"),
    "grey": (npy(ARRAY[:, :, 0]), "application/x-npy", {}, "(height, width, 3)"),
    "planes first": (npy(ARRAY.transpose(2, 0, 1)), "application/x-npy", {}, "(height, width, 3)"),
    "no pixels": (npy(ARRAY[:0]), "application/x-npy", {}, "(height, width, 3)"),
    "short npy": (npy(ARRAY)[:-1], "application/x-npy", {}, "bytes"),
    "long npy": (npy(ARRAY) + b"x", "application/x-npy", {}, "bytes"),
    "top_k 0": (JPEG, "image/jpeg", {ATTRIBUTES: "top_k=0"}, "top_k"),
    "top_k word": (JPEG, "image/jpeg", {ATTRIBUTES: "top_k=five"}, "top_k"),
    "top_k negative": (JPEG, "image/jpeg", {ATTRIBUTES: "top_k=-1"}, "top_k"),
    "top_k empty": (JPEG, "image/jpeg", {ATTRIBUTES: "top_k="}, "top_k"),
    "verbose": (JPEG, "image/jpeg", {"Accept": "text/csv; verbose=maybe"}, "verbose"),
    "layer": (
        JPEG,
        "image/jpeg",
        {"Accept": "application/json; explain=cam; layer=nonsense"},
        "layer must be true or false",
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_400(case: str) -> None:
    body, content_type, headers, words = BAD_REQUESTS[case]
    response = post(body, content_type, headers)
    assert response.status_code == 400
    assert words in error(response)


def test_an_array_that_claims_to_be_huge_is_refused_before_memory_is_taken() -> None:
    claimed = npy(ARRAY).replace(b"(60, 80, 3), ", b"(9999999999, 9999999999, 3), ")
    header = claimed[:6] + b"\x01\x00" + len(claimed[10:]).to_bytes(2, "little") + claimed[10:]
    response = post(header, "application/x-npy")
    assert response.status_code == 400


def test_too_large_a_body_is_413() -> None:
    client = serving_artifacts.client(SAGEMAKER_MAX_PAYLOAD_IN_MB="1")
    for size, status in ((2**20 + 1, 413), (2**20, 400)):
        response = client.post("/invocations", data=bytes(size), content_type="image/jpeg")
        assert response.status_code == status
    response = client.post(
        "/invocations",
        input_stream=io.BytesIO(bytes(2**20 + 1)),
        environ_overrides={"wsgi.input_terminated": True},
        content_type="image/jpeg",
    )
    assert response.status_code == 413, "a chunked body has no Content-Length"
    assert "1 MB" in error(response)


def test_too_many_pixels_are_413() -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    response = post(bomb, "image/png")
    assert response.status_code == 413
    assert "million" in error(response)


def test_too_many_images_are_413() -> None:
    response = post(npy(np.zeros((200, 8, 8, 3), np.uint8)), "application/x-npy")
    assert response.status_code == 413
    assert "128" in error(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/invocations", 405),
        ("POST", "/ping", 405),
        ("DELETE", "/execution-parameters", 405),
        ("GET", "/nothing", 404),
        ("POST", "/invocations/", 404),
        ("GET", "/../model.json", 404),
    ],
)
def test_other_paths_and_methods(method: str, path: str, status: int) -> None:
    response = serving_artifacts.client().open(path, method=method)
    assert response.status_code == status
    assert error(response)
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("megabytes", ["0", "1", "6", "49", "51", "100"])
def test_execution_parameters_keep_within_the_service_s_product(megabytes: str) -> None:
    # "MaxConcurrentTransforms * MaxPayloadInMB must not exceed 100 MB"
    client = serving_artifacts.client(SAGEMAKER_MAX_PAYLOAD_IN_MB=megabytes)
    answer: dict[str, Any] = client.get("/execution-parameters").get_json()
    assert answer["BatchStrategy"] == "SINGLE_RECORD"
    assert answer["MaxPayloadInMB"] == int(megabytes) or megabytes == "0"
    assert 1 <= answer["MaxConcurrentTransforms"] * answer["MaxPayloadInMB"] <= 100


def _classifier(engine: Engine, *, limit: int) -> Classifier:
    """What the small model's network is replaced by, in its place."""
    facts = serving_artifacts.loaded().facts
    return Classifier(facts, engine, limit=limit, patience=1, threads=FairThreads(1))


def test_our_own_fault_is_500_without_internals(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        name = precision = "broken"
        lanes = batch = 1

        def scores(self, images: object, present: int = 1) -> Any:
            raise RuntimeError("secret of the house")

    model = _classifier(Broken(), limit=1)
    client = serving_artifacts.client(model)
    response = client.post("/invocations", data=JPEG, content_type="image/jpeg")
    assert response.status_code == 500
    assert "secret" not in error(response)
    assert "secret of the house" in caplog.text


def test_when_all_threads_are_busy_pings_are_answered_and_invocations_refused() -> None:
    statuses: list[int] = []

    class Reentrant:
        """An engine that sends another request while it is at work on one."""

        name = precision = "reentrant"
        lanes, batch = 2, 1

        def scores(self, images: object, present: int = 1) -> Any:
            statuses.append(client.get("/ping").status_code)
            inner = client.post("/invocations", data=JPEG, content_type="image/jpeg")
            statuses.append(inner.status_code)
            return np.zeros((1, len(CLASSES)), np.float32)

    model = _classifier(Reentrant(), limit=1)
    client = serving_artifacts.client(model, KENNEL_THREADS="4")
    outer = client.post("/invocations", data=JPEG, content_type="image/jpeg")
    assert outer.status_code == 200
    # Four threads, of which two are for pings: the outer request, one within it, and no third.
    assert statuses == [200, 200, 503, 200]
    assert json.loads(outer.data) == pytest.approx([0.2] * 5)


def test_who_would_wait_too_long_is_told_at_once_when_to_come_again() -> None:
    class Nested:
        """An engine with one lane and no room to wait that sends another request meanwhile."""

        name = precision = "nested"
        lanes = batch = 1

        def scores(self, images: object, present: int = 1) -> Any:
            refused.append(client.post("/invocations", data=JPEG, content_type="image/jpeg"))
            return np.zeros((1, len(CLASSES)), np.float32)

    refused: list[Any] = []
    model = _classifier(Nested(), limit=0)
    client = serving_artifacts.client(model)
    outer = client.post("/invocations", data=JPEG, content_type="image/jpeg")
    assert outer.status_code == 200
    assert refused[0].status_code == 503
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert "try again" in error(refused[0])
