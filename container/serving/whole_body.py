"""A request's body in whole pieces, where gunicorn would go through it by 1 KB."""

import io
from typing import Any

from gunicorn.http.body import Body

from container.serving.slow_clients import PIECE


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
