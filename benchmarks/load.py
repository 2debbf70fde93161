"""A closed-loop load on loopback: so many clients, each asking again as soon as it is answered."""

import http.client
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


def measure(port: int, body: bytes, *, clients: int, seconds: float) -> Load:
    """Post the same image from `clients` connections for some seconds, after a short warm-up."""
    latencies: list[float] = []
    warm = time.perf_counter() + seconds / 4
    end = warm + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (started := time.perf_counter()) < end:
            connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.client.OK:
                raise RuntimeError(f"the server answered {answer.status}")
            if started >= warm:
                latencies.append(time.perf_counter() - started)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    milliseconds = 1000 * np.array(latencies)
    return Load(
        len(latencies) / seconds,
        float(np.percentile(milliseconds, 50)),
        float(np.percentile(milliseconds, 99)),
    )
