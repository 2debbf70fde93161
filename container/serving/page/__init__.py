"""The page at `/`: try the model in a browser. Static files, no build step, no other origin."""

from collections.abc import Callable
from pathlib import Path

from flask import Blueprint, Response
from werkzeug.exceptions import ServiceUnavailable

from container.serving.models.loading import Loading
from container.serving.reports import json_response

FOLDER = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    # Nothing inline, nothing from elsewhere; blob: and data: are the image and the map on it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


def create(loading: Loading, max_payload: int) -> Blueprint:
    """The routes of the page for one model; `max_payload` is the largest request in bytes."""
    routes = Blueprint("page", __name__)
    for path, (name, media_type) in FILES.items():
        routes.add_url_rule(path, name.replace(".", "_"), _file(name, media_type))

    @routes.get("/page/model.json")
    def model() -> Response:
        """What the page says about the model."""
        if loading.model is None:
            raise ServiceUnavailable("The model is still loading; try again.", retry_after=1)
        classifier = loading.classifier
        if classifier is None:
            said = "This model answers by a script of its own, which the page cannot read."
            return json_response({"error": said}, 404)
        content = {
            "architecture": classifier.facts.architecture,
            "classes": len(classifier.facts.classes),
            "engine": classifier.engine.name,
            "max_payload": max_payload,
        }
        return json_response(content, 200)

    @routes.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    return routes


def _file(name: str, media_type: str) -> Callable[[], Response]:
    content = (FOLDER / name).read_bytes()
    return lambda: Response(content, mimetype=media_type)
