"""A closed-loop load on loopback: so many clients, each asking again as soon as it is answered.

The clients share the processors with the server, so they do the least that HTTP asks for: one
thread asks for all of them, and reads of an answer no more than where it ends.
"""

import heapq
import selectors
import socket
import time
from dataclasses import dataclass

import numpy as np

PATIENCE_SECONDS = 60
"""How long all clients may wait at once before the server counts as dead."""


@dataclass(frozen=True)
class Load:
    """What a server did under one load."""

    per_second: float
    median_milliseconds: float
    p99_milliseconds: float
    answered: int
    """Requests in all, the warm-up's included."""
    refusals: tuple[float, ...]
    """Milliseconds until each refusal."""


def measure(
    port: int,
    body: bytes,
    *,
    clients: int,
    seconds: float,
    content_type: str = "image/jpeg",
    path: str = "/invocations",
    refusals: bool = False,
) -> Load:
    """Post the same image from `clients` connections for some seconds, after a short warm-up.

    With `refusals` the server may answer 503 with Retry-After, which the client then heeds.

    Raises:
        OSError, RuntimeError: the server closed a connection, or gave another answer.
    """
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    # The first answer may take seconds in a process that has just started.
    _Crowd([_Client(port, request)], refusals=False).ask_until(0.0)
    crowd = _Crowd([_Client(port, request) for _ in range(clients)], refusals=refusals)
    start = time.perf_counter() + seconds / 4
    crowd.ask_until(start + seconds)
    latencies = [done - asked for asked, done in crowd.answered if asked >= start]
    if not latencies:
        raise RuntimeError(f"no request was answered within {seconds:g} seconds")
    milliseconds = 1000 * np.array(latencies)
    return Load(
        len(latencies) / seconds,
        float(np.percentile(milliseconds, 50)),
        float(np.percentile(milliseconds, 99)),
        1 + len(crowd.answered),
        tuple(1000 * (done - asked) for asked, done in crowd.refused if asked >= start),
    )


class _Client:
    """One connection, on which one request is under way."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self._connection: socket.socket | None = None
        self._received = b""
        self.asked = 0.0
        """When the request that is under way was sent."""

    def ask(self, selector: selectors.BaseSelector) -> None:
        """Send the request, on a new connection where there is none."""
        self.asked = time.perf_counter()
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self._port))
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The whole request fits into it, so that sending never waits for the server.
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(self._request))
            selector.register(self._connection, selectors.EVENT_READ, self)
        self._connection.sendall(self._request)

    def leave(self, selector: selectors.BaseSelector) -> None:
        """Close the connection."""
        if self._connection is not None:
            selector.unregister(self._connection)
            self._connection.close()
            self._connection = None

    def receive(self, selector: selectors.BaseSelector) -> bytes:
        """Take what has arrived; the head of the answer in lower case, once all of it is there."""
        assert self._connection is not None
        if not (piece := self._connection.recv(65536)):
            raise RuntimeError("the server closed the connection")
        self._received += piece
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return b""
        head = self._received[:end].lower()
        if b"transfer-encoding: chunked" in head:
            if not self._received.endswith(b"\r\n0\r\n\r\n"):
                return b""
        elif len(self._received) < end + 4 + int(_header(head, b"content-length")):
            return b""
        self._received = b""
        if b"connection: close" in head:  # gunicorn's plain workers do so after every answer
            self.leave(selector)
        return head


class _Crowd:
    """Clients that ask again as soon as they are answered, or as they are told to when refused."""

    def __init__(self, clients: list[_Client], *, refusals: bool) -> None:
        self._clients = clients
        self._refusals = refusals
        self.answered: list[tuple[float, float]] = []
        """When each request was sent and answered."""
        self.refused: list[tuple[float, float]] = []
        """When each request was sent and refused."""

    def ask_until(self, end: float) -> None:
        """Ask with every client, and again until the end. Raises OSError, RuntimeError."""
        due = [(0.0, place) for place in range(len(self._clients))]
        under_way = 0
        with selectors.DefaultSelector() as selector:
            try:
                while due or under_way:
                    now = time.perf_counter()
                    while due and due[0][0] <= now:
                        self._clients[heapq.heappop(due)[1]].ask(selector)
                        under_way += 1
                    patience = due[0][0] - now if due else PATIENCE_SECONDS
                    ready = selector.select(patience)
                    if not ready and not due:
                        raise RuntimeError(f"no answer within {PATIENCE_SECONDS} s")
                    for client in [key.data for key, _ in ready]:
                        if head := client.receive(selector):
                            under_way -= 1
                            again = self._take(client, head)
                            if again < end:
                                heapq.heappush(due, (again, self._clients.index(client)))
            finally:
                for client in self._clients:
                    client.leave(selector)

    def _take(self, client: _Client, head: bytes) -> float:
        """Count an answer; when its client may ask again. Raises RuntimeError."""
        now = time.perf_counter()
        status = head.split(b" ", 2)[1]
        if status == b"200":
            self.answered.append((client.asked, now))
            return now
        if status != b"503" or not self._refusals:
            raise RuntimeError(f"the server answered {status.decode()}")
        self.refused.append((client.asked, now))
        return now + float(_header(head, b"retry-after"))


def _header(head: bytes, name: bytes) -> str:
    """Its value. Raises RuntimeError where the answer has none."""
    _, found, rest = head.partition(b"\r\n" + name + b":")
    if not found:
        raise RuntimeError(f"the answer has no {name.decode()}")
    return rest.split(b"\r\n", 1)[0].decode()
