"""How long clients may take: one that stalls must not hold a thread for ever."""

import io
import socket
import time

from gunicorn.http.errors import NoMoreData
from gunicorn.http.unreader import SocketUnreader

HEAD_SECONDS = 5.0
"""For all of the request's headers, from their first byte."""
STALL_SECONDS = 5.0
"""Between two pieces of the body."""
BODY_SECONDS = 60.0
"""For all of the body."""
ANSWER_SECONDS = 30.0
"""For the client to take a piece of the answer: a slow one is not cut off, one that stalls is."""
MAX_DISCARDED = 64 * 1024 * 1024
"""Bytes of a body that was refused that are still taken from the client: many look at the answer
only once they have sent everything."""
PIECE = 64 * 1024
"""Bytes that are taken from a connection, or given to it, at once: most photographs come in one or
two pieces."""


class TimedReader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn's parser reads a connection through, which does not wait for ever."""

    sock: socket.socket
    buf: io.BytesIO

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, max_chunk=PIECE)
        self.gave_up = False
        """Whether the client was too slow, or has gone: nothing more is expected of it."""
        self._in_head = True
        self._until = 0.0

    @property
    def holds_more(self) -> bool:
        """Whether there are bytes that have come and were not asked for yet."""
        return self.buf.getbuffer().nbytes > 0

    def expect_head(self) -> None:
        """The next bytes are a new request's."""
        self._in_head = True
        self._until = time.monotonic() + HEAD_SECONDS

    def expect_body(self) -> None:
        """The headers are there, and the next bytes are the body's."""
        self._in_head = False
        self._until = time.monotonic() + BODY_SECONDS

    def expect_rest(self) -> None:
        """The next bytes are of a body that nobody asks for, and may not hold a thread for long."""
        self._until = min(self._until, time.monotonic() + STALL_SECONDS)

    def chunk(self) -> bytes:
        """What the client has sent, up to PIECE.

        Raises:
            NoMoreData: the headers take too long; the connection is closed without a word.
            TimeoutError: the body takes too long, now and whenever it is asked for again.
        """
        left = min(self._until - time.monotonic(), STALL_SECONDS)
        try:
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            data: bytes = self.sock.recv(self.mxchunk)
        except TimeoutError:
            self.gave_up = True
            self._until = 0.0
            if self._in_head:
                raise NoMoreData from None
            raise
        finally:
            self.sock.settimeout(ANSWER_SECONDS)
        return data
