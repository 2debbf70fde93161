"""How long a thread stays with a connection, with a body, and with an answer."""

import contextlib
import io
import select
import socket
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import ThreadWorker
from hypothesis import given
from hypothesis import strategies as st

from container.serving import slow_clients
from container.serving import worker as worker_module
from container.serving.whole_body import WholeBody
from container.serving.worker import Worker


def worker(threads: int, connections: int, *, idle: int = 0) -> Worker:
    """A worker that is not running: only what it counts by."""
    made = Worker.__new__(Worker)
    made.alive = True
    made.cfg = SimpleNamespace(threads=threads)
    made.nr_conns = connections
    made.keepalived_conns = deque([None] * idle)
    made.pending_conns = deque()
    return made


def test_a_thread_stays_with_a_connection_that_asks_again_while_another_thread_is_free() -> None:
    client, server = socket.socketpair()
    with client, server:
        connection = SimpleNamespace(sock=server)
        assert not worker(2, 1)._asks_again(connection), "nothing is asked"
        client.sendall(b"POST")
        assert worker(2, 1)._asks_again(connection)
        assert worker(2, 5, idle=4)._asks_again(connection), "idle connections hold no thread"
        assert not worker(2, 2)._asks_again(connection), "others may wait for this thread"
        stopping = worker(2, 1)
        stopping.alive = False
        assert not stopping._asks_again(connection)
        assert server.recv(4) == b"POST", "nothing was taken from the connection"


def test_a_connection_that_is_closed_is_left_to_who_reads_it() -> None:
    client, server = socket.socketpair()
    with server:
        client.close()
        assert worker(2, 1)._asks_again(SimpleNamespace(sock=server))


def test_a_body_that_nobody_asks_for_holds_its_thread_for_seconds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(slow_clients, "time", SimpleNamespace(monotonic=lambda: now[0]))
    here, there = socket.socketpair()
    with here, there:
        reader = slow_clients.TimedReader(here)
        reader.expect_body()
        reader.expect_rest()
        there.sendall(b"a")
        assert reader.chunk() == b"a"
        now[0] = slow_clients.STALL_SECONDS + 0.1  # it drips on, but not for as long as a body may
        there.sendall(b"b")
        with pytest.raises(TimeoutError):
            reader.chunk()
        assert reader.gave_up


def refused(here: socket.socket, length: int) -> Any:
    """A connection whose request was answered before any of its body was read."""
    unreader = slow_clients.TimedReader(here)
    unreader.expect_body()
    body = WholeBody(LengthReader(unreader, length))
    parser = SimpleNamespace(
        unreader=unreader, mesg=SimpleNamespace(body=body), finish_body=lambda deadline: True
    )
    return SimpleNamespace(sock=here, parser=parser)


def left_unread(here: socket.socket) -> int:
    here.setblocking(False)
    left = 0
    with contextlib.suppress(BlockingIOError):
        while piece := here.recv(slow_clients.PIECE):
            left += len(piece)
    return left


@pytest.mark.parametrize("keep", [True, False])
def test_the_rest_of_a_refused_body_is_read_while_nobody_waits_for_the_thread(
    monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    size = 2 * slow_clients.PIECE
    for most, connections, left in (
        (size, 2, 0),
        (size, 3, slow_clients.PIECE),
        (slow_clients.PIECE, 2, slow_clients.PIECE),
    ):
        monkeypatch.setattr(worker_module, "MAX_DISCARDED", most)
        here, there = socket.socketpair()
        with here, there:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * size)
            there.sendall(bytes(size))
            assert worker(2, connections)._keepalive_after(refused(here, size), keep) is keep
            assert left_unread(here) == left


def test_a_client_that_stalls_or_goes_while_its_refused_body_is_read_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slow_clients, "STALL_SECONDS", 0.05)
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"abc")
        stalled = refused(here, 4)
        assert not worker(2, 1)._keepalive_after(stalled, True)
        assert stalled.parser.unreader.gave_up
        there.sendall(b"d")
        assert not worker(2, 1)._keepalive_after(stalled, False)
        assert left_unread(here) == 1, "it is not waited for again"
    here, there = socket.socketpair()
    with here:
        here.sendall(b"its answer, which it does not read")
        there.close()
        assert not worker(2, 1)._keepalive_after(refused(here, 4), True)


@given(
    st.integers(0, 3 * slow_clients.PIECE),
    st.lists(st.integers(0, 2 * slow_clients.PIECE) | st.integers(0, 9), max_size=6),
    st.sampled_from([None, -1, 10**9]),
)
def test_a_body_is_read_as_from_a_file_in_few_pieces(
    length: int, sizes: list[int], rest: int | None
) -> None:
    data = bytes(range(256)) * (length // 256) + bytes(length % 256)
    file, sent, asked = io.BytesIO(data), io.BytesIO(data), []

    def read(size: int) -> bytes:
        asked.append(size)
        return sent.read(size)

    body = WholeBody(SimpleNamespace(read=read))
    for size in sizes:
        assert body.read(size) == file.read(size)
    assert len(asked) <= len([size for size in sizes if size])
    assert min(asked, default=slow_clients.PIECE) >= slow_clients.PIECE
    assert body.read(rest) == file.read(rest)
    assert body.read(1) == b""


def test_a_client_that_was_too_slow_is_not_waited_for_again() -> None:
    here, there = socket.socketpair()
    with here, there:
        reader = slow_clients.TimedReader(here)
        reader.expect_body()
        reader._until = 0.0
        there.sendall(b"too late")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                reader.chunk()
        reader.expect_head()
        reader._until = 0.0
        with pytest.raises(NoMoreData):
            reader.chunk()


ANSWER = bytes(range(256)) * 16 * 1024


def answered(monkeypatch: pytest.MonkeyPatch, connection: socket.socket) -> tuple[bool, bool]:
    """Send ANSWER; whether the connection is kept, and whether its client was given up."""

    def handle_request(self: Any, request: Any, conn: Any) -> bool:
        conn.sock.sendall(ANSWER)
        return True

    monkeypatch.setattr(ThreadWorker, "handle_request", handle_request)
    reader = slow_clients.TimedReader(connection)
    conn = SimpleNamespace(sock=connection, parser=SimpleNamespace(unreader=reader))
    kept = worker(2, 1).handle_request(SimpleNamespace(body=None, headers=[]), conn)
    assert conn.sock is connection
    return kept, reader.gave_up


def test_a_connection_whose_client_does_not_take_its_answer_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "ANSWER_SECONDS", 0.05)
    here, there = socket.socketpair()
    with here, there:
        assert answered(monkeypatch, here) == (False, True)
    here, there = socket.socketpair()
    with here:
        there.close()
        assert answered(monkeypatch, here) == (False, True)


def test_a_client_that_takes_its_answer_slowly_but_steadily_gets_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "ANSWER_SECONDS", 1.0)
    here, there = socket.socketpair()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, slow_clients.PIECE)
    taken = bytearray()

    def take() -> None:
        while len(taken) < len(ANSWER):
            select.select([], [], [], 0.03)  # 64 pieces take twice as long as one may
            taken.extend(there.recv(slow_clients.PIECE))

    with here, there:
        client = threading.Thread(target=take)
        client.start()
        assert answered(monkeypatch, here) == (True, False)
        client.join()
    assert taken == ANSWER
