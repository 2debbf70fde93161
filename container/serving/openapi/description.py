"""The whole description, and the route that gives it."""

import json

from flask import Flask, Response

from container.serving.answer import JSON
from container.serving.openapi.paths import ALWAYS, MANY_MODELS, ONE_MODEL
from container.serving.openapi.schemas import SCHEMAS, Document


def document(*, multi_model: bool) -> Document:
    """What a server answers, with one model or with many."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kennel",
            "version": "1",
            "description": "Amazon SageMaker's serving contract over a ResNet classifier.",
        },
        "paths": ALWAYS | (MANY_MODELS if multi_model else ONE_MODEL),
        "components": {"schemas": SCHEMAS},
    }


def install(app: Flask, *, multi_model: bool) -> None:
    """Add the route."""
    text = json.dumps(document(multi_model=multi_model))

    @app.get("/openapi.json")
    def description() -> Response:
        """This server's routes for programs."""
        return Response(text, mimetype=JSON)
