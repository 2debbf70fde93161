"""What a server must survive: stopping under load, slow clients, killed workers, odd requests."""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import serving_artifacts
import serving_requests as bodies
from serving_artifacts import encoded, photograph
from serving_process import DEADLINE_SECONDS, Server, serving

from container.serving import server as server_module
from container.serving import settings, slow_clients

JPEG = {"Content-Type": "image/jpeg"}
MOST_CONNECTIONS = 1000
"""gunicorn's default for one worker."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An /opt/ml with a model."""
    directory = tmp_path_factory.mktemp("opt-ml")
    serving_artifacts.write(directory / "model")
    return directory


class Client(threading.Thread):
    """Sends requests, over one connection or a new one each, until nobody listens any more."""

    def __init__(self, server: Server, body: bytes, *, keep_alive: bool) -> None:
        super().__init__(daemon=True)
        self.answers: list[bytes] = []
        self.statuses: set[int] = set()
        self.lost: list[str] = []
        self._server, self._body, self._keep_alive = server, body, keep_alive

    def run(self) -> None:
        while True:
            connection = http.client.HTTPConnection(
                "127.0.0.1", self._server.port, timeout=DEADLINE_SECONDS
            )
            with contextlib.closing(connection):
                try:
                    connection.connect()
                except OSError:
                    return  # refused in the open: nothing was sent, nothing is lost
                try:
                    self._send(connection)
                except (OSError, http.client.HTTPException) as error:
                    self.lost.append(repr(error))
                    return

    def _send(self, connection: http.client.HTTPConnection) -> None:
        while True:
            connection.request("POST", "/invocations", self._body, JPEG)
            response = connection.getresponse()
            self.answers.append(response.read())
            self.statuses.add(response.status)
            if not self._keep_alive or response.getheader("Connection") == "close":
                return


def test_sigterm_under_load_loses_no_request_not_even_of_late_clients(
    base: Path, tmp_path: Path
) -> None:
    with serving(base, tmp_path) as server:
        server.wait_until_ready()
        clients = [Client(server, encoded(photograph(n)), keep_alive=n % 2 == 0) for n in range(8)]
        for client in clients:
            client.start()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while sum(len(client.answers) for client in clients) < 80:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        seconds = time.monotonic() - started
        for client in clients:
            client.join(DEADLINE_SECONDS)
    assert seconds < 15
    assert [client.lost for client in clients] == [[]] * len(clients)
    assert {status for client in clients for status in client.statuses} == {200}
    for client in clients:
        assert len(set(client.answers)) == 1, "an answer to another request"
    assert len({client.answers[0] for client in clients}) == len(clients)


def test_clients_that_stall_lose_their_connection_and_hold_no_thread(
    base: Path, tmp_path: Path
) -> None:
    threads = settings.parse({}).threads
    heads = (b"POST /invocations HTTP/1.1\r\nHost: a\r\n", b"P")
    body = b"POST /invocations HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nxx"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(base, tmp_path))
        server.wait_until_ready()
        stalled = []
        for number in range(threads + threads // 2):
            connection = socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS)
            stack.enter_context(connection)
            connection.sendall((*heads, body)[number % 3])
            stalled.append(connection)
        started = time.monotonic()
        status, _ = server.request("POST", "/invocations", encoded(photograph()), **JPEG)
        # Two rounds of stalled clients may go before this one.
        assert time.monotonic() - started < 3 * slow_clients.STALL_SECONDS
        assert status in (200, 503)
        for number, connection in enumerate(stalled):
            answer = b"".join(iter(lambda: connection.recv(4096), b""))  # noqa: B023
            if number % 3 == 2:
                assert answer.split(b"\r\n")[0] in (
                    b"HTTP/1.1 408 REQUEST TIMEOUT",
                    b"HTTP/1.1 503 SERVICE UNAVAILABLE",
                )
            else:
                assert answer == b""
        assert server.request("POST", "/invocations", encoded(photograph()), **JPEG)[0] == 200
        assert len(server.log.read_text().splitlines()) == 1, "no noise"


def test_clients_that_stall_in_their_bodies_take_nobody_s_place(base: Path, tmp_path: Path) -> None:
    head = b"POST /invocations HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(base, tmp_path, KENNEL_THREADS="32"))
        server.wait_until_ready()
        stalled = []
        for number in range(30):
            connection = socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS)
            stack.enter_context(connection)
            connection.sendall(head + b"x" * (number % 2))
            stalled.append(connection)
        started = time.monotonic()
        for _ in range(3):
            status, _ = server.request("POST", "/invocations", encoded(photograph()), **JPEG)
            assert status == 200
            assert server.request("GET", "/ping")[0] == 200
        assert time.monotonic() - started < slow_clients.STALL_SECONDS, (
            "they were there all the time"
        )
        answers = {connection.recv(4096).split(b"\r\n")[0] for connection in stalled}
        assert answers == {b"HTTP/1.1 408 REQUEST TIMEOUT"}


def test_silent_clients_keep_nobody_out_and_are_closed_when_headers_are_due(
    base: Path, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(base, tmp_path))
        server.wait_until_ready()
        address = ("127.0.0.1", server.port)
        started = time.monotonic()
        silent = [
            stack.enter_context(socket.create_connection(address, DEADLINE_SECONDS))
            for _ in range(MOST_CONNECTIONS + 20)
        ]
        assert server.request("GET", "/ping")[0] == 200
        assert server.request("POST", "/invocations", encoded(photograph()), **JPEG)[0] == 200
        assert [connection.recv(1) for connection in silent] == [b""] * len(silent)
        # Far less than a kept-alive connection has, on a machine that does much else.
        assert time.monotonic() - started < server_module.KEEP_ALIVE_SECONDS / 2


def test_more_clients_than_the_system_allows_files_cost_no_worker(
    base: Path, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(base, tmp_path))
        server.wait_until_ready()
        (worker,) = server.children()
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (100, 100))
        address = ("127.0.0.1", server.port)
        for _ in range(150):
            stack.enter_context(socket.create_connection(address, DEADLINE_SECONDS))
        assert server.request("GET", "/ping")[0] == 200
        assert server.children() == [worker]


def test_a_killed_worker_is_back_and_answers_within_3_seconds(base: Path, tmp_path: Path) -> None:
    with serving(base, tmp_path) as server:
        server.wait_until_ready()
        (killed,) = server.children()
        started = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        status = 0
        while status != 200 and time.monotonic() - started < DEADLINE_SECONDS:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _ = server.request("POST", "/invocations", encoded(photograph()), **JPEG)
        assert time.monotonic() - started < 3
        assert server.children() != [killed]


def test_no_answer_is_another_request_s(base: Path, tmp_path: Path) -> None:
    images = [encoded(photograph(seed)) for seed in range(10)]
    requests = [(image, "image/jpeg") for image in images]
    requests += [(bodies.form(*images[first : first + 3]), bodies.FORM_TYPE) for first in range(5)]
    requests += [
        (bodies.zipped((f"{first}-{n}", images[n]) for n in range(first, 10)), "application/zip")
        for first in range(5)
    ]
    wrong: list[int] = []
    with serving(base, tmp_path) as server:
        server.wait_until_ready()

        def ask(number: int) -> tuple[int, bytes]:
            body, content_type = requests[number % len(requests)]
            return server.request("POST", "/invocations", body, **{"Content-Type": content_type})

        alone = [ask(number) for number in range(len(requests))]
        assert {status for status, _ in alone} == {200}
        assert len({answer for _, answer in alone}) == len(requests)

        def send(first: int) -> None:
            for number in range(first, first + len(requests)):
                if ask(number) != alone[number % len(requests)]:
                    wrong.append(number)

        threads = [threading.Thread(target=send, args=(3 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def resident(pid: int) -> float:
    """MB of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1]) / 1024


def test_unloading_a_model_frees_its_memory_before_it_is_answered(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        serving_artifacts.write(tmp_path / "models" / name / "model", image_size=64, seed=seed)
    weights = (tmp_path / "models/a/model/model.safetensors").stat().st_size / 2**20
    with serving(tmp_path, tmp_path, SAGEMAKER_MULTI_MODEL="true") as server:
        server.wait_until_ready()

        def load(name: str) -> int:
            given = {"model_name": name, "url": str(tmp_path / "models" / name / "model")}
            status, _ = server.request("POST", "/models", json.dumps(given).encode())
            return status

        assert load("a") == 200
        (worker,) = server.children()
        empty: list[float] = []
        for _ in range(6):
            assert load("b") == 200
            status, _ = server.request("POST", "/models/b/invoke", encoded(photograph()), **JPEG)
            assert status == 200
            full = resident(worker)
            assert server.request("DELETE", "/models/b")[0] == 200
            empty.append(resident(worker))
            assert empty[-1] < full - 0.7 * weights
        assert max(empty) - empty[0] < weights / 8
        assert server.children() == [worker]
        assert server.request("POST", "/models/a/invoke", encoded(photograph()), **JPEG)[0] == 200


HEAD = b"POST /invocations HTTP/1.1\r\nHost: a\r\n"
ODD_HEADS: dict[str, bytes] = {
    "no request": b"\r\n\r\n\r\n",
    "noise": bytes(range(256)) + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300) + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": b"GET /ping HTTP/9.9\r\n\r\n",
    "a long line": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
    "a long header": HEAD + b"A: " + b"b" * 20_000 + b"\r\n\r\n",
    "many headers": HEAD + b"A: b\r\n" * 2_000 + b"\r\n",
    "no colon": HEAD + b"nonsense\r\n\r\n",
    "folded": HEAD + b"A: b\r\n c\r\n\r\n",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "no length": HEAD + b"Content-Length: x\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "huge length": HEAD + b"Content-Length: 99999999999999999999\r\n\r\nab",
    "smuggled": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": HEAD + b"Transfer-Encoding: rot13\r\n\r\n",
    "gzip": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a huge chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab",
    "no chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n",
    "long chunk extension": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n1;"
    + b"a" * 200_000
    + b"\r\nx",
    "expectation": HEAD + b"Expect: miracles\r\nContent-Length: 1\r\n\r\na",
    "another method": b"BREW /invocations HTTP/1.1\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    "TRACE": b"TRACE /ping HTTP/1.1\r\n\r\n",
    "a path outside": b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    "a NUL": b"GET /\0 HTTP/1.1\r\n\r\n",
    "bad percent": b"GET /%zz%ff%00 HTTP/1.1\r\n\r\n",
}


def test_odd_requests_are_refused_and_the_next_one_is_answered(base: Path, tmp_path: Path) -> None:
    with serving(base, tmp_path) as server:
        server.wait_until_ready()
        (worker,) = server.children()
        seen: dict[str, bytes] = {}
        for name, data in ODD_HEADS.items():
            with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as odd:
                with contextlib.suppress(OSError):  # refused before all of it was sent
                    odd.sendall(data)
                    odd.shutdown(socket.SHUT_WR)
                answer = b""
                with contextlib.suppress(OSError):
                    while piece := odd.recv(4096):
                        answer += piece
                seen[name] = answer.split(b"\r\n")[0]
        # What RFC 9112 wants for it, section 6.1; it says nothing of a fault.
        assert seen.pop("another coding").startswith(b"HTTP/1.1 501 ")
        for name, line in seen.items():
            assert not line or line.startswith(b"HTTP/1.1 4"), name
        assert server.children() == [worker]
        assert server.request("POST", "/invocations", encoded(photograph()), **JPEG)[0] == 200
        assert "Traceback" not in server.log.read_text()


def test_a_body_over_the_limit_is_answered_once_the_client_has_sent_it(
    base: Path, tmp_path: Path
) -> None:
    with serving(base, tmp_path) as server:
        server.wait_until_ready()
        status, answer = server.request("POST", "/invocations", bytes(20 * 2**20), **JPEG)
        assert status == 413
        assert "6 MB" in json.loads(answer)["error"]


def test_a_client_that_goes_on_sending_what_was_refused_by_its_headers_reads_the_answer(
    base: Path, tmp_path: Path
) -> None:
    size, piece = 3 * 2**20, bytes(4096)
    with serving(base, tmp_path) as server:
        server.wait_until_ready()
        for kept in (True, False):
            how = b"" if kept else b"Connection: close\r\n"
            with socket.socket() as client:
                client.settimeout(DEADLINE_SECONDS)
                # The system must not take all of it before the server could close the connection.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
                client.connect(("127.0.0.1", server.port))
                client.sendall(
                    b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
                    b"Content-Length: %d\r\n%b\r\n" % (size, how)
                )
                for _ in range(size // len(piece)):
                    client.sendall(piece)
                with http.client.HTTPResponse(client) as response:
                    response.begin()
                    assert response.status == 415
                    assert "text/plain" in json.loads(response.read())["error"]
                if kept:
                    client.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert len(server.log.read_text().splitlines()) == 1, "no noise"
