"""Whatever a client sends, the answer is no 5xx and, where it is an error, one JSON sentence."""

import numpy as np
import pytest
import serving_artifacts
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_artifacts import encoded, npy, photograph
from werkzeug.test import TestResponse

PHOTOGRAPH = photograph(size=(40, 30))
FILES = [
    encoded(PHOTOGRAPH),
    encoded(PHOTOGRAPH, "JPEG", progressive=True, quality=30),
    encoded(PHOTOGRAPH, "PNG"),
    encoded(PHOTOGRAPH.convert("P"), "PNG"),
    encoded(PHOTOGRAPH, "WEBP"),
    encoded(PHOTOGRAPH, "GIF"),
    encoded(PHOTOGRAPH, "BMP"),
    encoded(PHOTOGRAPH, "TIFF"),
]
ARRAYS = [npy(np.asarray(PHOTOGRAPH)), npy(np.asarray(PHOTOGRAPH)[np.newaxis])]
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)

bounded = settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def client() -> FlaskClient:
    return serving_artifacts.client()


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A file with some bytes changed, most of them in its header, and perhaps its end missing."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 6))):
        near = min(len(data), draw(st.sampled_from([16, 64, 200, len(data)])))
        data[draw(st.integers(0, near - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


def check(response: TestResponse) -> None:
    assert response.status_code in (200, 400, 406, 413, 415)
    if response.status_code != 200:
        assert list(response.get_json()) == ["error"]


@bounded
@given(
    body=st.binary(max_size=300), content_type=st.sampled_from(["image/png", "application/x-npy"])
)
def test_random_bytes(client: FlaskClient, body: bytes, content_type: str) -> None:
    check(client.post("/invocations", data=body, content_type=content_type))


@bounded
@given(body=mutated(FILES))
def test_mutated_images(client: FlaskClient, body: bytes) -> None:
    check(client.post("/invocations", data=body, content_type="application/x-image"))


@bounded
@given(body=mutated(ARRAYS))
def test_mutated_arrays(client: FlaskClient, body: bytes) -> None:
    check(client.post("/invocations", data=body, content_type="application/x-npy"))


@bounded
@given(header=st.binary(max_size=120), version=st.sampled_from([b"\1\0", b"\2\0", b"\3\0"]))
def test_array_headers(client: FlaskClient, header: bytes, version: bytes) -> None:
    length = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    body = b"\x93NUMPY" + version + length + header + bytes(30)
    check(client.post("/invocations", data=body, content_type="application/x-npy"))


@bounded
@given(
    accept=TEXT
    | st.sampled_from(["application/json;q=x", "text/csv;verbose", ";;", "a/b,*/*;q=2"]),
    content_type=TEXT | st.sampled_from(["image/jpeg", "image/jpeg;;", 'image/png; a="']),
    attributes=TEXT | st.sampled_from(["top_k=99999999999", "top_k==", "verbose", "=" * 1000]),
)
def test_random_headers(
    client: FlaskClient, accept: str, content_type: str, attributes: str
) -> None:
    response = client.post(
        "/invocations",
        data=FILES[0],
        headers={
            "Accept": accept,
            "Content-Type": content_type,
            "X-Amzn-SageMaker-Custom-Attributes": attributes,
        },
    )
    check(response)
