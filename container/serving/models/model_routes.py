"""The routes of a multi-model endpoint: load, list, look at, unload and invoke models.

https://docs.aws.amazon.com/sagemaker/latest/dg/mms-container-apis.html
"""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from container.serving.intake import Intake, read_json
from container.serving.invocation import Model
from container.serving.models.model_table import Entry, ModelTable, ModelTableError
from container.serving.reports import json_response

MAX_NAME = 1024


def create(table: ModelTable, intake: Intake, invoke: Callable[[Model], Response]) -> Blueprint:
    """The routes over one table; `invoke` answers the current request with a model, and other slow
    work takes a place of the `intake`.
    """
    routes = Blueprint("models", __name__)

    @routes.post("/models")
    def load() -> Response:
        """Load a model; it can be invoked once this is answered."""
        with intake.request() as read_body:
            name, url = _wanted(read_json(read_body()))
            table.load(name, url)
        return json_response({"modelName": name, "modelUrl": url}, 200)

    @routes.get("/models")
    def listed() -> Response:
        """The loaded models, a page at a time."""
        entries, token = table.page(request.args.get("next_page_token", ""))
        following = {"nextPageToken": token} if token else {}
        return json_response({"models": list(map(_described, entries)), **following}, 200)

    @routes.get("/models/<name>")
    def one(name: str) -> Response:
        """One loaded model."""
        return json_response(_described(table.entry(name)), 200)

    @routes.delete("/models/<name>")
    def unload(name: str) -> Response:
        """Unload a model; its memory is free once this is answered."""
        with intake.work():
            table.unload(name)
        return json_response({"modelName": name}, 200)

    @routes.post("/models/<name>/invoke")
    def invoked(name: str) -> Response:
        """Answer with one of the models."""
        with table.using(name) as model:
            return invoke(model)

    @routes.errorhandler(ModelTableError)
    def refused(error: ModelTableError) -> Response:
        """What the table refuses, as SageMaker wants to be told."""
        return json_response({"error": str(error)}, error.status)

    return routes


def _described(entry: Entry) -> dict[str, str]:
    return {"modelName": entry.name, "modelUrl": entry.url}


def _wanted(document: Any) -> tuple[str, str]:
    name, url = (
        document.get(key) if isinstance(document, dict) else None for key in ("model_name", "url")
    )
    if not isinstance(name, str) or not isinstance(url, str) or not url:
        raise BadRequest('Send {"model_name": "<name>", "url": "<directory>"}.')
    if not 0 < len(name) <= MAX_NAME or "/" in name:
        raise BadRequest(f"A model_name has 1 to {MAX_NAME} characters and no slash.")
    return name, url
