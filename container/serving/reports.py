"""Errors as JSON with one sentence, and JSON answers in general."""

import json
import logging
from typing import Any

from flask import Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, ServiceUnavailable

from container.images import ImageError, ImageTooLargeError
from container.serving.answer import JSON
from container.serving.engines.turns import OverloadedError

log = logging.getLogger(__name__)


def json_response(content: dict[str, Any], status: int) -> Response:
    """A JSON object as an answer."""
    return Response(json.dumps(content), status, mimetype=JSON)


def error_response(error: Exception, *, invoked_at: str) -> Response:
    """Every error as JSON with one sentence; only our own faults are 500, and logged.

    `invoked_at` is where this server takes images: who asks in another place is told.
    """
    if isinstance(error, ImageError):
        status = 413 if isinstance(error, ImageTooLargeError) else 400
        return json_response({"error": str(error)}, status)
    if isinstance(error, OverloadedError):
        error = ServiceUnavailable(str(error), retry_after=error.retry_after)
    if not isinstance(error, HTTPException):
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return json_response({"error": "The server failed; its log says why."}, 500)
    response = json_response({"error": _sentence(error, invoked_at)}, error.code or 500)
    for name, value in error.get_headers():
        if name != "Content-Type":
            response.headers[name] = value
    return response


def _sentence(error: HTTPException, invoked_at: str) -> str:
    if isinstance(error, NotFound):
        return f"There is nothing at {request.path}; POST an image to {invoked_at}."
    if isinstance(error, MethodNotAllowed):
        return f"{request.path} takes {', '.join(error.valid_methods or ())}, not {request.method}."
    return str(error.description)
