"""A closed-loop load on loopback: so many clients, each asking again as soon as it is answered.

The clients share the processors with the server, so they do the least that HTTP asks for.
"""

import socket
import threading
import time
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Load:
    """What a server did under one load."""

    per_second: float
    median_milliseconds: float
    p99_milliseconds: float


def measure(
    port: int, body: bytes, *, clients: int, seconds: float, content_type: str = "image/jpeg"
) -> Load:
    """Post the same image from `clients` connections for some seconds, after a short warm-up."""
    latencies: list[float] = []
    warm = time.perf_counter() + seconds / 4
    end = warm + seconds

    request = (
        f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    failures: list[str] = []

    def client() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (started := time.perf_counter()) < end and not failures:
                connection.sendall(request)
                status = _read_answer(connection)
                if status != b"200":
                    failures.append(status.decode())
                if started >= warm:
                    latencies.append(time.perf_counter() - started)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"the server answered {failures[0]}")
    milliseconds = 1000 * np.array(latencies)
    return Load(
        len(latencies) / seconds,
        float(np.percentile(milliseconds, 50)),
        float(np.percentile(milliseconds, 99)),
    )


def _read_answer(connection: socket.socket) -> bytes:
    """Take one answer off the connection; its status."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _receive(connection)
    head = data[:end].lower()
    if b"transfer-encoding: chunked" in head:
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += _receive(connection)
    else:
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(data) < end + 4 + length:
            data += _receive(connection)
    return data.split(b" ", 2)[1]


def _receive(connection: socket.socket) -> bytes:
    if not (piece := connection.recv(65536)):
        raise RuntimeError("the server closed the connection")
    return piece
