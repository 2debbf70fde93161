"""SageMaker's HTTP contract as a Flask application.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

import contextlib
import json
import logging
import threading
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
)

from container.images import ImageError, ImageTooLargeError
from container.serving import answer, payload
from container.serving.classifier import Loading
from container.serving.settings import Settings

log = logging.getLogger(__name__)

THREADS_FOR_PINGS = 2
"""Threads that invocations leave free: a ping must be answered within 2 seconds at any load."""
MAX_CONCURRENT_TRANSFORM_MB = 100
"""Batch transform refuses MaxConcurrentTransforms x MaxPayloadInMB above it."""


def create_app(loading: Loading, settings: Settings) -> Flask:
    """The application; it answers pings at once, and invocations once the model is there."""
    app = Flask(__name__, static_folder=None)
    # One more than allowed: Werkzeug cuts a chunked body off at its limit without a word.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_payload + 1
    admission = threading.BoundedSemaphore(settings.threads - THREADS_FOR_PINGS)

    @app.get("/ping")
    def ping() -> Response:
        """Whether the model has answered; SageMaker sends traffic after the first 200."""
        classifier = loading.classifier
        if classifier is None:
            return _json({"status": "loading"}, 503)
        return _json({"status": "ready", "engine": classifier.engine.name}, 200)

    @app.post("/invocations")
    def invocations() -> Response:
        """Classify the image or images in the body."""
        classifier = loading.classifier
        if classifier is None:
            raise ServiceUnavailable("The model is still loading; try again.", retry_after=1)
        if not admission.acquire(blocking=False):
            raise ServiceUnavailable("All threads are busy; try again.", retry_after=1)
        try:
            form = answer.choose(
                request.accept_mimetypes,
                request.headers.get("X-Amzn-SageMaker-Custom-Attributes", ""),
            )
            media_type = payload.check_content_type(request.content_type)
            given = payload.parse(media_type, _body(settings))
            predictions = [classifier.probabilities(image) for image in given.images]
        finally:
            admission.release()
        text = answer.write(form, classifier.facts.classes, predictions, several=given.several)
        return Response(text, mimetype=form.media_type)

    @app.get("/execution-parameters")
    def execution_parameters() -> Response:
        """What suits a batch transform job: each image is an object and a request of its own."""
        megabytes = settings.max_payload // 2**20
        concurrent = min(settings.threads // 2, MAX_CONCURRENT_TRANSFORM_MB // megabytes)
        return _json(
            {
                "MaxConcurrentTransforms": concurrent,
                "BatchStrategy": "SINGLE_RECORD",
                "MaxPayloadInMB": megabytes,
            },
            200,
        )

    app.register_error_handler(Exception, _error)
    return app


def _body(settings: Settings) -> bytes:
    """All of the request's body. Raises RequestEntityTooLarge, BadRequest."""
    with contextlib.suppress(RequestEntityTooLarge):
        try:
            body = request.get_data(cache=False)
        except RequestEntityTooLarge:
            raise
        except Exception:  # the server's errors for a connection that broke off or bad chunks
            raise BadRequest("The request's body could not be read to its end.") from None
        if len(body) <= settings.max_payload:
            return body
    raise RequestEntityTooLarge(
        f"The request is larger than {settings.max_payload // 2**20} MB; send a smaller image, or "
        "set SAGEMAKER_MAX_PAYLOAD_IN_MB."
    )


def _error(error: Exception) -> Response:
    """Every error as JSON with one sentence; only our own faults are 500, and logged."""
    if isinstance(error, ImageError):
        return _json({"error": str(error)}, 413 if isinstance(error, ImageTooLargeError) else 400)
    if not isinstance(error, HTTPException):
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return _json({"error": "The server failed; its log says why."}, 500)
    response = _json({"error": _sentence(error)}, error.code or 500)
    for name, value in error.get_headers():
        if name != "Content-Type":
            response.headers[name] = value
    return response


def _sentence(error: HTTPException) -> str:
    if isinstance(error, NotFound):
        return f"There is nothing at {request.path}; POST an image to /invocations."
    if isinstance(error, MethodNotAllowed):
        return f"{request.path} takes {', '.join(error.valid_methods or ())}, not {request.method}."
    return str(error.description)


def _json(content: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(content), status, mimetype=answer.JSON)
