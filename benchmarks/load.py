"""A closed-loop load on loopback: so many clients, each asking again as soon as it is answered.

The clients share the processors with the server, so they do the least that HTTP asks for: one
thread asks for all of them, and reads of an answer no more than where it ends.
"""

import selectors
import socket
import time
from dataclasses import dataclass

import numpy as np

PATIENCE_SECONDS = 60
"""How long every client may wait at once before the server counts as dead."""


@dataclass(frozen=True)
class Load:
    """What a server did under one load."""

    per_second: float
    median_milliseconds: float
    p99_milliseconds: float
    answered: int
    """Requests in all, the warm-up's included."""


def measure(
    port: int,
    body: bytes,
    *,
    clients: int,
    seconds: float,
    content_type: str = "image/jpeg",
    path: str = "/invocations",
) -> Load:
    """Post the same image from `clients` connections for some seconds, after a short warm-up.

    Raises:
        OSError, RuntimeError: the server closed a connection, or answered anything but 200.
    """
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with selectors.DefaultSelector() as selector:
        # The first answer may take seconds in a process that has just started.
        _ask_until(selector, [_Client(port, request)], end=0.0)
        start = time.perf_counter() + seconds / 4
        finished = _ask_until(
            selector, [_Client(port, request) for _ in range(clients)], end=start + seconds
        )
    latencies = [done - asked for asked, done in finished if asked >= start]
    if not latencies:
        raise RuntimeError(f"no request was answered within {seconds:g} seconds")
    milliseconds = 1000 * np.array(latencies)
    return Load(
        len(latencies) / seconds,
        float(np.percentile(milliseconds, 50)),
        float(np.percentile(milliseconds, 99)),
        1 + len(finished),
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

    def receive(self, selector: selectors.BaseSelector) -> bool:
        """Take what has arrived; whether the answer is whole."""
        assert self._connection is not None
        if not (piece := self._connection.recv(65536)):
            raise RuntimeError("the server closed the connection")
        self._received += piece
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._received[:end].lower()
        if b"transfer-encoding: chunked" in head:
            if not self._received.endswith(b"\r\n0\r\n\r\n"):
                return False
        else:
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(self._received) < end + 4 + length:
                return False
        self._received = b""
        status = head.split(b" ", 2)[1]
        if status != b"200":
            raise RuntimeError(f"the server answered {status.decode()}")
        if b"connection: close" in head:  # gunicorn's plain workers do so after every answer
            self.leave(selector)
        return True


def _ask_until(
    selector: selectors.BaseSelector, clients: list[_Client], end: float
) -> list[tuple[float, float]]:
    """Ask once with every client, and again until the end; when each was asked and answered."""
    for client in clients:
        client.ask(selector)
    finished: list[tuple[float, float]] = []
    try:
        while waiting := len(clients):
            ready = selector.select(PATIENCE_SECONDS)
            if not ready:
                raise RuntimeError(f"{waiting} requests had no answer in {PATIENCE_SECONDS} s")
            for key, _ in ready:
                client = key.data
                if not client.receive(selector):
                    continue
                now = time.perf_counter()
                finished.append((client.asked, now))
                if now < end:
                    client.ask(selector)
                else:
                    client.leave(selector)
                    clients.remove(client)
    finally:
        for client in clients:
            client.leave(selector)
    return finished
