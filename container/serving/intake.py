"""Taking in a request's body, within its limits."""

import contextlib
import json
from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, RequestTimeout

MAX_DISCARDED = 64 * 1024 * 1024
"""Bytes of too large a body that are still taken from the client."""


def read_body(most: int) -> bytes:
    """All of the request's body, at most so many bytes.

    Raises:
        RequestEntityTooLarge: it is longer.
        RequestTimeout: the client sends too slowly.
        BadRequest: it breaks off.
    """
    with contextlib.suppress(RequestEntityTooLarge):
        try:
            body = request.get_data(cache=False)
        except RequestEntityTooLarge:
            raise
        except Exception as error:  # the server's errors for slow clients and broken connections
            if isinstance(error.__context__, TimeoutError):
                raise RequestTimeout("The request's body did not arrive in time.") from None
            raise BadRequest("The request's body could not be read to its end.") from None
        if len(body) <= most:
            return body
    _discard_rest()
    raise RequestEntityTooLarge(
        f"The request is larger than {most // 2**20} MB; send a smaller image, or "
        "set SAGEMAKER_MAX_PAYLOAD_IN_MB."
    )


def _discard_rest() -> None:
    """Read on for a while: many clients look at the answer only once they have sent everything."""
    left = MAX_DISCARDED
    with contextlib.suppress(Exception):  # the connection broke off, or is too slow
        while left > 0 and (data := request.environ["wsgi.input"].read(1 << 16)):
            left -= len(data)


def read_json(body: bytes) -> Any:
    """A body that must be JSON. Raises BadRequest."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("The request's body is not JSON.") from None
