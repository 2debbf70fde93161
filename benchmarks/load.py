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
    """Post the same image from `clients` connections for some seconds, after a short warm-up."""

    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with socket.create_connection(("127.0.0.1", port), timeout=60) as first:
        first.sendall(request)  # which may take seconds in a process that has just started
        _read_answer(first)
    latencies: list[float] = []
    failures: list[str] = []
    warm = time.perf_counter() + seconds / 4
    end = warm + seconds

    counts = [0] * clients

    def client(place: int) -> None:
        connection = None
        while (started := time.perf_counter()) < end and not failures:
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                connection.sendall(request)
                status, stays = _read_answer(connection)
            except (OSError, RuntimeError) as error:
                failures.append(str(error))
                break
            if status != b"200":
                failures.append(f"the server answered {status.decode()}")
            counts[place] += 1
            if started >= warm:
                latencies.append(time.perf_counter() - started)
            if not stays:  # gunicorn's plain workers close after every answer
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=client, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])
    if not latencies:
        raise RuntimeError(f"no request was answered within {seconds:g} seconds")
    milliseconds = 1000 * np.array(latencies)
    return Load(
        len(latencies) / seconds,
        float(np.percentile(milliseconds, 50)),
        float(np.percentile(milliseconds, 99)),
        sum(counts),
    )


def _read_answer(connection: socket.socket) -> tuple[bytes, bool]:
    """Take one answer off the connection; its status, and whether the connection stays."""
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
    return data.split(b" ", 2)[1], b"connection: close" not in head


def _receive(connection: socket.socket) -> bytes:
    if not (piece := connection.recv(65536)):
        raise RuntimeError("the server closed the connection")
    return piece
