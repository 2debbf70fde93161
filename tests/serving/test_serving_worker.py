"""How long a thread stays with a connection, and with a body."""

import socket
from collections import deque
from types import SimpleNamespace

import pytest

from container.serving import patience
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
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: now[0]))
    here, there = socket.socketpair()
    with here, there:
        reader = patience.PatientReader(here)
        reader.expect_body()
        reader.expect_rest()
        there.sendall(b"a")
        assert reader.chunk() == b"a"
        now[0] = patience.STALL_SECONDS + 0.1  # it drips on, but not for as long as a body may
        there.sendall(b"b")
        with pytest.raises(TimeoutError):
            reader.chunk()
        assert reader.gave_up
