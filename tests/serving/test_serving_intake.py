"""How many bodies may be on their way, and what room they take together."""

import io
import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import serving_artifacts
from flask.testing import FlaskClient
from serving_artifacts import encoded, photograph
from werkzeug.test import TestResponse

from container.serving import settings, slow_clients

PHOTOGRAPH = encoded(photograph())
MEGABYTE = 2**20


class Slow(io.RawIOBase):
    """A body whose client sends so many bytes, says so, and then stalls until it may end."""

    def __init__(self, size: int) -> None:
        self.sent, self.go_on = threading.Event(), threading.Event()
        self._left = size

    def readinto(self, buffer: Any) -> int:
        if self._left == 0:
            self.sent.set()
            assert self.go_on.wait(30)
        size = min(self._left, len(buffer))
        buffer[:size] = bytes(size)
        self._left -= size
        return size


@pytest.fixture
def client() -> FlaskClient:
    """A server that works on two requests at once, of at most 1 MB each."""
    return serving_artifacts.client(KENNEL_THREADS="4", SAGEMAKER_MAX_PAYLOAD_IN_MB="1")


def post(client: FlaskClient, body: Any = PHOTOGRAPH, kind: str = "image/jpeg") -> TestResponse:
    stream = io.BytesIO(body) if isinstance(body, bytes) else body
    given = {"wsgi.input": stream, "wsgi.input_terminated": True}
    return client.post("/invocations", environ_overrides=given, content_type=kind)


def begin(
    pool: ThreadPoolExecutor, client: FlaskClient, size: int
) -> tuple[Slow, Future[TestResponse]]:
    body = Slow(size)
    answer = pool.submit(post, client, body)
    assert body.sent.wait(30)
    return body, answer


def test_bodies_together_take_no_more_room_than_the_largest_of_those_that_are_worked_on(
    client: FlaskClient,
) -> None:
    with ThreadPoolExecutor() as pool:
        begun = [begin(pool, client, MEGABYTE * 9 // 10) for _ in range(2)]
        refused = post(client, bytes(MEGABYTE // 2))
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert post(client).status_code == 200, "a small one has room"
        for body, _ in begun:
            body.go_on.set()
        assert [answer.result().status_code for _, answer in begun] == [400, 400]
    assert post(client, bytes(MEGABYTE // 2)).status_code == 400, "there is room again"


class Endless(io.RawIOBase):
    """A body that goes on for ever, or for so many bytes, after which the connection breaks off."""

    def __init__(self, breaks_after: float = math.inf) -> None:
        self.taken = 0
        self._breaks_after = breaks_after

    def readinto(self, buffer: Any) -> int:
        if self.taken >= self._breaks_after:
            raise ConnectionResetError
        self.taken += len(buffer)
        return len(buffer)


@pytest.mark.parametrize("breaks_after", [math.inf, 8 * MEGABYTE])
def test_too_large_a_body_is_taken_from_its_client_as_far_as_is_sensible(
    client: FlaskClient, breaks_after: float
) -> None:
    body = Endless(breaks_after)
    refused = post(client, body)
    assert refused.status_code == 413
    most = min(breaks_after, MEGABYTE + slow_clients.MAX_DISCARDED)
    assert most <= body.taken < most + MEGABYTE


def test_a_body_shorter_than_its_length_is_not_taken_for_whole(client: FlaskClient) -> None:
    for missing, status in ((1, 400), (0, 200)):
        given = {
            "wsgi.input": io.BytesIO(PHOTOGRAPH),
            "wsgi.input_terminated": True,
            "CONTENT_LENGTH": str(len(PHOTOGRAPH) + missing),
        }
        answer = client.post("/invocations", environ_overrides=given, content_type="image/jpeg")
        assert answer.status_code == status
        assert ("to its end" in answer.text) == (status == 400)


def test_as_many_bodies_are_on_their_way_as_leave_threads_for_pings(client: FlaskClient) -> None:
    most = 2 + settings.THREADS_FOR_BODIES
    with ThreadPoolExecutor(most) as pool:
        begun = [begin(pool, client, 1) for _ in range(most)]
        assert post(client).status_code == 503
        assert post(client, kind="text/plain").status_code == 415, "headers are looked at before"
        begun[0][0].go_on.set()
        begun[0][1].result()
        assert post(client).status_code == 200
        for body, _ in begun:
            body.go_on.set()
        # All are there at once, and two of them at a time are worked on.
        assert {answer.result().status_code for _, answer in begun} <= {400, 503}
    assert post(client).status_code == 200
