"""The real `./serve` as a process, over loopback."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import serving_artifacts
from serving_artifacts import encoded, npy, photograph
from serving_process import DEADLINE_SECONDS, SERVE, Server, free_port, serving

from container.serving import settings


def run_to_its_end(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SERVE), *arguments],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An /opt/ml with a model."""
    directory = tmp_path_factory.mktemp("opt-ml")
    serving_artifacts.write(directory / "model")
    return directory


def test_it_serves_from_start_to_sigterm(base: Path, tmp_path: Path) -> None:
    with serving(base, tmp_path) as server:
        assert server.wait_until_ready() <= {503}
        picture = tmp_path / "picture.jpg"
        picture.write_bytes(encoded(photograph()))
        answer = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--fail", "--noproxy", "*"),
                *("--header", "Content-Type: image/jpeg", "--data-binary", f"@{picture}"),
                f"http://127.0.0.1:{server.port}/invocations",
            ],
            capture_output=True,
            check=True,
        )
        assert sum(json.loads(answer.stdout)) == pytest.approx(1, abs=1e-5)
        worker = server.children()
        maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in worker)
        assert len(worker) == 1
        assert "openvino" in maps
        assert "libtorch" not in maps
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        lines = server.log.read_text().splitlines()
        assert len(lines) == 1, "no access log, no other noise"
        assert lines[0].startswith("INFO: Serving resnet18 with 5 classes")
    assert list((base / "home").iterdir()) == [], "nothing is written to the home directory"


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text(),
    reason="the kernel gives no large pages",
)
@pytest.mark.parametrize(("given", "taken"), [("", True), ("glibc.malloc.hugetlb=0", False)])
def test_the_network_lies_in_large_pages_unless_it_is_told_otherwise(
    base: Path, tmp_path: Path, given: str, taken: bool
) -> None:
    with serving(base, tmp_path, GLIBC_TUNABLES=given) as server:
        server.wait_until_ready()
        (worker,) = server.children()
        weighed = Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()
        large = next(int(line.split()[1]) for line in weighed if "AnonHugePages" in line)
        assert (large > 2**15) is taken, f"{large} kB"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_concurrent_requests_get_their_own_answers(
    base: Path, tmp_path: Path, processes: str
) -> None:
    bodies = [encoded(photograph(seed)) for seed in range(12)]
    headers = {"Content_Type": "image/jpeg"}
    wrong: list[object] = []
    with serving(base, tmp_path, KENNEL_PROCESSES=processes) as server:
        server.wait_until_ready()
        assert len(server.children()) == int(processes)
        alone = [server.request("POST", "/invocations", body, **headers) for body in bodies]
        assert len(set(alone)) == len(bodies), "different images have different answers"
        assert {status for status, _ in alone} == {200}

        def send(first: int) -> None:
            for index in range(first, first + 2 * len(bodies)):
                own = index % len(bodies)
                answer = server.request("POST", "/invocations", bodies[own], **headers)
                if answer != alone[own]:
                    wrong.append((own, answer))

        threads = [threading.Thread(target=send, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_sigterm_drains_requests_in_flight(base: Path, tmp_path: Path) -> None:
    body = npy(np.stack([np.asarray(photograph(seed)) for seed in range(8)]))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(base, tmp_path))
        server.wait_until_ready()
        pings = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        stack.enter_context(contextlib.closing(pings))
        pings.connect()
        slow = socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS)
        stack.enter_context(slow)
        slow.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/x-npy\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        # The server says that it is reading the request; now it is told to stop.
        assert slow.recv(100).startswith(b"HTTP/1.1 100 ")
        stopping = False
        server.process.send_signal(signal.SIGTERM)
        while not stopping:
            pings.request("GET", "/ping")
            answer = pings.getresponse()
            answer.read()
            stopping = answer.getheader("Connection") == "close"
        slow.sendall(body)
        response = stack.enter_context(http.client.HTTPResponse(slow))
        response.begin()
        assert response.status == 200
        assert len(json.loads(response.read())) == 8
        assert server.wait() == 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_sigterm_loses_no_request_and_waits_for_no_idle_client(
    base: Path, tmp_path: Path, processes: str
) -> None:
    body = encoded(photograph())
    answered: list[int] = []
    lost: list[str] = []
    told = threading.Event()

    def connect_and_send(server: Server, keep_alive: bool) -> None:
        """Send requests over one connection until it is closed."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        with contextlib.closing(connection):
            closed = False
            while not closed:
                connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg"})
                response = connection.getresponse()
                response.read()
                answered.append(response.status)
                closed = not keep_alive or response.getheader("Connection") == "close"

    def client(server: Server, keep_alive: bool) -> None:
        """Connect again and again, until the server stops."""
        while True:
            late = told.is_set()
            try:
                connect_and_send(server, keep_alive)
            except (OSError, http.client.HTTPException) as error:
                # Who connects after SIGTERM may be turned away; others must be answered.
                if not late:
                    lost.append(repr(error))
                return

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(base, tmp_path, KENNEL_PROCESSES=processes))
        server.wait_until_ready()
        address = ("127.0.0.1", server.port)
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(40)]
        assert len(silent) > settings.parse({}).threads, "silent clients do not hold threads"
        idle = stack.enter_context(socket.create_connection(address))
        idle.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 OK" in idle.recv(100)
        threads = [threading.Thread(target=client, args=(server, n % 2 == 0)) for n in range(6)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(answered) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        told.set()
        server.process.send_signal(signal.SIGTERM)
        since = time.monotonic()
        assert server.wait() == 0
        assert time.monotonic() - since < 15
        for thread in threads:
            thread.join()
    assert lost == []
    assert set(answered) == {200}


def test_a_body_that_breaks_off_does_no_harm(base: Path, tmp_path: Path) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    image = encoded(photograph())
    with serving(base, tmp_path) as server:
        server.wait_until_ready()
        for rest in (
            b"Content-Length: 1000\r\n\r\nabc",
            b"Content-Length: %d\r\n\r\n%b" % (len(image) + 1, image),
            b"Transfer-Encoding: chunked\r\n\r\nzzz\r\nabc\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        ):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(head + rest)
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
            assert not answer or answer.startswith(b"HTTP/1.1 400"), answer
        assert server.request("GET", "/ping")[0] == 200
        assert "Traceback" not in server.log.read_text()


def test_requests_that_come_together_are_answered_one_after_the_other(
    base: Path, tmp_path: Path
) -> None:
    body = encoded(photograph())
    ping = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    image = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    image += b"Content-Length: %d\r\n\r\n" % len(body) + body
    with serving(base, tmp_path) as server:
        server.wait_until_ready()
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(ping + image + ping + ping)
            received = b""
            while received.count(b"HTTP/1.1 200 OK") < 4:
                piece = connection.recv(4096)
                assert piece, received
                received += piece
    order = [b'"ready"' in answer for answer in received.split(b"HTTP/1.1 200 OK")[1:]]
    assert order[:3] == [True, False, True]


def test_a_killed_worker_is_replaced(base: Path, tmp_path: Path) -> None:
    with serving(base, tmp_path) as server:
        server.wait_until_ready()
        killed = server.children()
        os.kill(killed[0], signal.SIGKILL)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (set(server.children()) - set(killed)) and time.monotonic() < deadline:
            pass
        server.wait_until_ready()
        assert set(server.children()).isdisjoint(killed)


def test_of_two_processes_one_without_a_model_takes_no_clients(base: Path, tmp_path: Path) -> None:
    body = encoded(photograph())
    with serving(base, tmp_path, KENNEL_PROCESSES="2") as server:

        def answers_until(loaded: int) -> set[int]:
            """What clients are told until so many models were loaded, and a while after."""
            statuses, after = set(), 0
            deadline = time.monotonic() + DEADLINE_SECONDS
            while after < 20 and time.monotonic() < deadline:
                after += server.log.read_text().count("loaded in") == loaded
                path, sent = ("/ping", b"") if after % 2 else ("/invocations", body)
                method = "POST" if sent else "GET"
                statuses.add(server.request(method, path, sent, Content_Type="image/jpeg")[0])
            assert after == 20
            return statuses

        assert answers_until(loaded=2) == {200}
        killed = server.children()[0]
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while killed in server.children() and time.monotonic() < deadline:
            pass
        assert answers_until(loaded=3) == {200}
        assert len(server.children()) == 2


def test_while_the_model_loads_pings_are_503_and_a_death_is_the_end(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    os.mkfifo(tmp_path / "model/model.json")  # whoever reads it waits
    with serving(tmp_path, tmp_path) as server:
        assert server.request("GET", "/ping")[0] == 503
        status, body = server.request("POST", "/invocations", b"x", Content_Type="image/jpeg")
        assert status == 503
        assert "loading" in json.loads(body)["error"]
        os.kill(server.children()[0], signal.SIGKILL)  # as the kernel does when memory is short
        assert server.wait() == 1
        assert "does not fit into memory" in server.log.read_text()


def one_sentence(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode not in (0, -signal.SIGTERM)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("serve: ")
    for word in words:
        assert word in result.stderr


def test_no_model_is_one_sentence_and_the_end(tmp_path: Path) -> None:
    result = run_to_its_end(
        SAGEMAKER_BASE_DIR=str(tmp_path), SAGEMAKER_BIND_TO_PORT=str(free_port())
    )
    one_sentence(result, str(tmp_path / "model"), "model.json")


def test_a_damaged_model_is_one_sentence_and_the_end(tmp_path: Path) -> None:
    serving_artifacts.write(tmp_path / "model")
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    result = run_to_its_end(
        SAGEMAKER_BASE_DIR=str(tmp_path), SAGEMAKER_BIND_TO_PORT=str(free_port())
    )
    one_sentence(result, "model.safetensors", "SHA-256")


def test_a_script_that_exits_is_one_sentence_and_the_end(tmp_path: Path) -> None:
    (tmp_path / "model/code").mkdir(parents=True)
    (tmp_path / "model/code/inference.py").write_text("raise SystemExit('no licence')\n")
    result = run_to_its_end(
        SAGEMAKER_BASE_DIR=str(tmp_path),
        SAGEMAKER_BIND_TO_PORT=str(free_port()),
        KENNEL_SCRIPT="true",
    )
    one_sentence(result, "inference.py", "no licence")


def test_a_port_in_use_is_one_sentence_and_the_end(base: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104
        taken.listen()
        port = str(taken.getsockname()[1])
        started = time.monotonic()
        result = run_to_its_end(SAGEMAKER_BASE_DIR=str(base), SAGEMAKER_BIND_TO_PORT=port)
    one_sentence(result, f"Port {port}", "SAGEMAKER_BIND_TO_PORT")
    assert time.monotonic() - started < 4, "no retries"


def test_a_bad_variable_is_one_sentence_and_the_end() -> None:
    one_sentence(run_to_its_end(SAGEMAKER_BIND_TO_PORT="http"), "SAGEMAKER_BIND_TO_PORT")


def test_help_explains_the_environment() -> None:
    result = run_to_its_end("--help")
    assert result.returncode == 0
    for name in ("SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_MAX_PAYLOAD_IN_MB", "KENNEL_ENGINE", "8080"):
        assert name in result.stdout


def test_unknown_arguments_are_refused() -> None:
    result = run_to_its_end("--workers", "4")
    assert result.returncode == 2
    assert "--workers" in result.stderr
