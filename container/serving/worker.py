"""gunicorn's threaded worker, stopping without losing requests or waiting for idle clients."""

import selectors
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

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
    _linger_until: float | None = None

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread, or to the poller until its first bytes are there."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        # gunicorn would let a thread wait 5 seconds for a client that says nothing.
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        self.poller.register(
            conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
        )

    def handle(self, conn: Any) -> Any:
        """Answer one request, in a thread of the pool."""
        keep = super().handle(conn)
        if not keep:
            # This may take seconds with a slow client; gunicorn would let the main loop wait.
            conn.close(graceful=True)
            conn.closed = True
        return keep

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
        """Start or pause accepting; a stopping worker accepts who is waiting, and then no one."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                waiting = True
                while waiting:
                    before = self.nr_conns
                    self.accept(listener)
                    waiting = self.nr_conns > before
                listener.close()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the main loop; a stopping worker also closes connections left idle."""
        if self.alive:
            super().wait_for_and_dispatch_events(timeout)
            return
        self.notify()
        super().wait_for_and_dispatch_events(min(timeout, POLL_SECONDS))
        if self._linger_until is None:
            self._linger_until = time.monotonic() + LINGER_SECONDS
        if time.monotonic() > self._linger_until:
            for connection in (*self.keepalived_conns, *self.pending_conns):
                connection.timeout = 0  # the main loop closes it next
