"""How long clients may take: one that stalls must not hold a thread for ever."""

import io
import socket
import time
from typing import Any

from gunicorn.http.body import Body
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
PIECE = 64 * 1024
"""Bytes that are taken from a connection, or given to it, at once: most photographs come in one or
two pieces."""


class PatientReader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn's parser reads a connection through, with an end to its patience."""

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


class WholeBody(Body):  # type: ignore[misc]
    """A request's body that is handed on in the pieces that are asked for.

    gunicorn's own goes through it in steps of 1 KB, and copies the rest of a piece in each; so does
    its parser where the application has left a body unread.
    """

    def __init__(self, reader: Any) -> None:
        super().__init__(reader)
        self._taken = io.BytesIO()
        """What has come from the connection and was not asked for yet, from its position on."""

    def read(self, size: int | None = None) -> bytes:
        """At most so many bytes, fewer only at the end."""
        data = self._taken.read(size)
        if size is None or size < 0:
            rest: bytes = super().read()
            return data + rest
        if len(data) < size:
            wanted = size - len(data)
            more = self.reader.read(max(wanted, PIECE))
            data += more[:wanted]
            if len(more) > wanted:
                self._taken = io.BytesIO(more)
                self._taken.seek(wanted)
        return data
