"""Taking in requests: a body within its limits, and how many requests at once."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import request
from werkzeug.exceptions import (
    BadRequest,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceUnavailable,
)

from container.serving.refusals import Refusals
from container.serving.settings import THREADS_FOR_BODIES
from container.serving.slow_clients import MAX_DISCARDED, PIECE


class Intake:
    """How many requests are worked on and how many bodies are on their way, at once.

    The others are refused, and pings stay quick. A place among those that are worked on is taken
    once the body is there, so that clients that send slowly keep nobody out.
    """

    def __init__(self, most: int, max_payload: int) -> None:
        """At most `most` requests are worked on; bodies take the room of so many of the largest."""
        self.running = 0
        """Requests that are worked on."""
        self._arriving = 0
        self._bytes = 0
        self._most = most
        self._max_payload = max_payload
        self._refusals = Refusals()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Take a place, for what needs no body. Raises ServiceUnavailable where there is none."""
        held = _Held()
        try:
            self._take_place(held)
            yield
        finally:
            self._give_back(held)

    @contextlib.contextmanager
    def request(self) -> Iterator[Callable[[], bytes]]:
        """Give what reads the current request's body, and takes a place for it until the end.

        That raises ServiceUnavailable where there is no place or no room, before it has read more
        than it must, and what `read_body` raises.
        """
        held = _Held()
        try:
            yield partial(self._take_in, held)
        finally:
            self._give_back(held)

    def _take_in(self, held: "_Held") -> bytes:
        with self._lock:
            present = self.running + self._arriving
            if self.running == self._most or present == self._most + THREADS_FOR_BODIES:
                raise self._busy()
            self._arriving += 1
        try:
            body = read_body(self._max_payload, partial(self._take_room, held))
        finally:
            with self._lock:
                self._arriving -= 1
        self._take_place(held)
        return body

    def _take_room(self, held: "_Held", size: int) -> None:
        with self._lock:
            if self._bytes + size > self._most * self._max_payload:
                raise self._busy()
            self._bytes += size
            held.bytes += size

    def _take_place(self, held: "_Held") -> None:
        with self._lock:
            if self.running == self._most:
                raise self._busy()
            self.running += 1
            held.places += 1

    def _give_back(self, held: "_Held") -> None:
        with self._lock:
            self.running -= held.places
            self._bytes -= held.bytes

    def _busy(self) -> ServiceUnavailable:
        return ServiceUnavailable(
            "All threads are busy; try again.", retry_after=self._refusals.retry_after()
        )


@dataclass
class _Held:
    """What one request has taken."""

    places: int = 0
    bytes: int = 0


def read_body(most: int, take_room: Callable[[int], None]) -> bytes:
    """All of the request's body, at most so many bytes; room is taken for each piece as it comes.

    Raises:
        RequestEntityTooLarge: it is longer.
        RequestTimeout: the client sends too slowly.
        BadRequest: it breaks off.
    """
    pieces: list[bytes] = []
    with contextlib.suppress(RequestEntityTooLarge):
        for piece in _pieces():
            take_room(len(piece))
            pieces.append(piece)
        body = b"".join(pieces)
        if len(body) <= most:
            return body
    pieces.clear()
    _discard_rest()
    raise RequestEntityTooLarge(
        f"The request is larger than {most // 2**20} MB; send a smaller image, or "
        "set SAGEMAKER_MAX_PAYLOAD_IN_MB."
    )


def _pieces() -> Iterator[bytes]:
    try:
        taken = 0
        while piece := request.stream.read(PIECE):
            taken += len(piece)
            yield piece
        if taken < (request.content_length or 0):
            raise EOFError  # the client has closed its side
    except RequestEntityTooLarge:
        raise
    except Exception as error:  # the server's errors for slow clients and broken connections
        if isinstance(error.__context__, TimeoutError):
            raise RequestTimeout("The request's body did not arrive in time.") from None
        raise BadRequest("The request's body could not be read to its end.") from None


def _discard_rest() -> None:
    """Read on for a while, before it is answered."""
    left = MAX_DISCARDED
    with contextlib.suppress(Exception):  # the connection broke off, or is too slow
        while left > 0 and (data := request.environ["wsgi.input"].read(1 << 16)):
            left -= len(data)


def read_json(body: bytes) -> Any:
    """A body that must be JSON. Raises BadRequest."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("The request's body is not JSON.") from None
