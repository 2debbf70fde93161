"""gunicorn's threaded worker, stopping without losing requests or waiting for idle clients."""

import errno
import select
import selectors
import socket
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from container.serving.slow_clients import (
    ANSWER_SECONDS,
    HEAD_SECONDS,
    MAX_DISCARDED,
    PIECE,
    TimedReader,
)
from container.serving.whole_body import WholeBody

CONNECT_SECONDS = 0.3
"""How long a stopping worker accepts clients that were connecting, when new ones are ignored."""
STAY_MILLISECONDS = 10
"""How long a thread stays with a connection that it has answered, while other threads are free."""
LINGER_SECONDS = 1.0
"""How long a stopping worker keeps idle connections, on which a request may be on its way."""
POLL_SECONDS = 0.1
"""How often a stopping worker looks for connections that are to be closed."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker whose end is orderly.

    gunicorn 26 closes a kept-alive connection after SIGTERM although the client was just told that
    it stays open, leaves connections that were not yet accepted to be reset, and waits for idle
    connections until its graceful timeout.
    """

    alive: bool
    nr_conns: int
    waits = False
    """Whether no clients are accepted, since there are other processes and no model here yet."""
    _listening = True
    _stopping_since: float | None = None

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread, or to the poller until its first bytes are there."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        # gunicorn would let a thread wait 5 seconds for a client that says nothing.
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + HEAD_SECONDS
        self.pending_conns.append(conn)
        self.poller.register(
            conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
        )

    def accept(self, listener: socket.socket) -> None:
        """Accept a client; where there is room for no other, who has been silent longest goes."""
        try:
            super().accept(listener)
            full = self.nr_conns >= self.worker_connections
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            full = True  # the system allows no more files
        if full and self.alive and len(self.pending_conns) > 1:
            self.pending_conns[0].timeout = 0
            self.murder_pending()

    def handle(self, conn: Any) -> Any:
        """Answer the requests of a connection, in a thread of the pool, while they come at once.

        Through the poller each would wake two more threads, which on few processors take their
        time from the network.
        """
        while keep := self._answer(conn):
            # What was sent along with the last request never wakes the poller.
            if not (conn.parser.unreader.holds_more or self._asks_again(conn)):
                break
        return keep

    def _asks_again(self, conn: Any) -> bool:
        """Whether a request follows that this thread may answer without another waiting for it."""
        if not self.alive or self._in_hand >= self.cfg.threads:
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(STAY_MILLISECONDS))

    @property
    def _in_hand(self) -> int:
        """Connections that have a thread or wait for one."""
        return self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)

    def _answer(self, conn: Any) -> Any:
        """Answer one request; whether the connection can take another."""
        if not conn.initialized:
            conn.init()
            conn.parser.unreader = TimedReader(conn.sock)
        conn.parser.unreader.expect_head()
        keep = super().handle(conn)
        if not keep:
            # This may take seconds with a slow client; gunicorn would let the main loop wait.
            conn.close(graceful=not conn.parser.unreader.gave_up)
            conn.closed = True
        return keep

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose headers are there."""
        conn.parser.unreader.expect_body()
        if req.body is not None:
            req.body = WholeBody(req.body.reader)
        connection = conn.sock
        conn.sock = gathered = _Gathered(connection)
        try:
            keep = super().handle_request(req, conn)
        finally:
            conn.sock = connection
            taken = gathered.flush()
        if not taken:
            # The next answer would be read as the rest of this one.
            conn.parser.unreader.gave_up = True
        return keep and taken

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        """Whether the connection can take another request: not after a damaged body."""
        try:
            self._take_rest(conn)
            return bool(super()._keepalive_after(conn, keepalive))
        except Exception:  # the parser meets again what the client has been told of
            return False

    def _take_rest(self, conn: Any) -> None:
        """Read on in a body that was refused, also where the connection is closed then.

        Closed with something unread it would be reset, and a client that is still sending would
        not see its answer. gunicorn reads by 1 KB, sets a time-out for each, and stops at 64 KB.
        """
        unreader, body = conn.parser.unreader, conn.parser.mesg.body
        if body is None or unreader.gave_up:
            return
        unreader.expect_rest()
        left = MAX_DISCARDED
        while left > 0 and (data := body.read(PIECE)):
            left -= len(data)
            if self._in_hand > self.cfg.threads:
                return  # pings may be among those who wait for this thread

    def welcome_clients(self) -> None:
        """The model is loaded. Called from another thread."""
        self.waits = False
        self.method_queue.defer(lambda: None)  # it ends the main loop's turn

    def handle_exit(self, _signal: int, _frame: Any) -> None:
        """SIGTERM: stop in the main loop's next turn, not in the middle of one."""
        self.method_queue.defer(self._stop)

    def _stop(self) -> None:
        self.alive = False

    def finish_request(self, conn: Any, future: "Future[Any]") -> None:
        """Keep the connection, or forget one that is closed."""
        if getattr(conn, "closed", False):
            self.nr_conns -= 1
            return
        alive = self.alive
        self.alive = True  # gunicorn 26 would close it otherwise
        super().finish_request(conn, future)
        self.alive = alive

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or pause accepting; a stopping worker accepts who is connecting, then no one."""
        if enabled and self.waits:
            return  # the main loop asks again in its next turn
        super().set_accept_enabled(enabled)
        if not self.alive:
            self.nr_conns += 1  # as if there were a connection, so that the main loop goes on
            self._accept_waiting()

    def _accept_waiting(self) -> None:
        for listener in self.sockets:
            waiting = True
            while waiting:
                before = self.nr_conns
                self.accept(listener)
                waiting = self.nr_conns > before

    def _stop_listening(self) -> None:
        self._accept_waiting()
        for listener in self.sockets:
            listener.close()
        self._listening = False
        self.nr_conns -= 1

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the main loop; a stopping worker also closes connections left idle."""
        if self.alive:
            super().wait_for_and_dispatch_events(timeout)
            return
        self.notify()
        super().wait_for_and_dispatch_events(min(timeout, POLL_SECONDS))
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
        seconds = time.monotonic() - self._stopping_since
        if self._listening:
            self._accept_waiting()
            if seconds > CONNECT_SECONDS:
                self._stop_listening()
        if seconds > LINGER_SECONDS:
            for connection in (*self.keepalived_conns, *self.pending_conns):
                connection.timeout = 0  # the main loop closes it next


class _Gathered:
    """A connection that sends an answer at once.

    gunicorn sends headers and body one by one, which would wake the client twice. What tells a
    client to go on with its body goes through `send`, and so at once.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def sendall(self, piece: bytes) -> None:
        """Keep a piece until the answer is whole."""
        self._pieces.append(piece)

    def flush(self) -> bool:
        """Send what was kept; whether the client has taken all of it, each piece in time."""
        answer = memoryview(b"".join(self._pieces))
        try:
            self._connection.settimeout(ANSWER_SECONDS)
            for start in range(0, len(answer), PIECE):
                self._connection.sendall(answer[start : start + PIECE])
        except OSError:  # too slow, or gone, or gunicorn closed it
            return False
        return True
