"""Kennel under ten times the clients that fill it, and its memory through many requests."""

import http.client
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.load import measure
from benchmarks.serving import write_artifact
from benchmarks.serving_processes import Server, kennel
from benchmarks.table import Row
from container.images import Preprocessing

FILLING = 16
"""Clients that keep every processor busy."""
TIMES = 10


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Answers and refusals under overload, and the memory before and after many requests."""
    seconds, requests = (2.0, 500) if quick else (15.0, 100_000)
    write_artifact(scratch / "full", "resnet18")
    body = next((scratch / "full/photographs").rglob("*.jpg")).read_bytes()
    with kennel(scratch / "full", body, "int8") as server:
        peak = measure(server.port, body, clients=FILLING, seconds=seconds).per_second
        crowd = _Crowd()
        crowd.ask(server, body, seconds)
    what = f"ResNet-18, int8, {FILLING * TIMES} clients"
    refusals = 1000 * np.array(crowd.refused or [0.0])
    return [
        Row(f"ResNet-18, int8, {FILLING} clients", f"{peak:.0f}/s"),
        Row(what, f"{len(crowd.answered) / seconds:.0f}/s", len(crowd.answered) / seconds / peak),
        Row(
            f"{what}: refused with 503 and Retry-After, which the clients heed",
            f"{len(crowd.refused) / seconds:.0f}/s, after {np.median(refusals):.0f} ms "
            f"(p99 {np.percentile(refusals, 99):.0f} ms)",
        ),
        _memory(scratch / "small", requests),
    ]


def _memory(scratch: Path, requests: int) -> Row:
    write_artifact(scratch, "resnet18", Preprocessing.for_image_size(32))
    body = next((scratch / "photographs").rglob("*.jpg")).read_bytes()
    with kennel(scratch, body, "float32") as server:
        measure(server.port, body, clients=FILLING, seconds=1)  # its buffers fill once
        before, done = server.memory(), 0
        while done < requests:
            done += measure(server.port, body, clients=FILLING, seconds=2).answered
        after = server.memory()
    return Row(
        f"memory through {done} requests, 500 x 375 JPEG, network of 32 pixels",
        f"{before:.0f} MB before, {after:.0f} MB after (PSS)",
    )


@dataclass
class _Crowd:
    """Clients that ask again as soon as they are answered, or as they are told to when refused."""

    answered: list[float] = field(default_factory=list)
    """Seconds until each answer."""
    refused: list[float] = field(default_factory=list)
    """Seconds until each refusal."""
    wrong: list[str] = field(default_factory=list)

    def ask(self, server: Server, body: bytes, seconds: float) -> None:
        """All at once, for so long. Raises RuntimeError where an answer is neither."""
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._client, args=(server.port, body, end))
            for _ in range(FILLING * TIMES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.wrong:
            raise RuntimeError(self.wrong[0])

    def _client(self, port: int, body: bytes, end: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (started := time.monotonic()) < end:
            try:
                connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
            except OSError as error:
                self.wrong.append(str(error))
                break
            spent = time.monotonic() - started
            if answer.status == http.client.OK:
                self.answered.append(spent)
                continue
            pause = answer.getheader("Retry-After")
            if answer.status != http.client.SERVICE_UNAVAILABLE or pause is None:
                self.wrong.append(f"the server answered {answer.status}, Retry-After {pause}")
                break
            self.refused.append(spent)
            time.sleep(max(0.0, min(float(pause), end - time.monotonic())))
        connection.close()
