"""The description of every route for programs: `GET /openapi.json`, OpenAPI 3.1."""

import json
from typing import Any

from flask import Flask, Response

from container.serving.answer import CSV, JSON, JSON_LINES, PNG
from container.serving.explanation.wanted import METHODS
from container.serving.inputs.payload import FORM_TYPE, IMAGE_TYPES

Document = dict[str, Any]

_IMAGE: Document = {
    "oneOf": [
        {"type": "string", "description": "base64, or a data: URL with base64 in it"},
        {
            "type": "object",
            "properties": {
                "image": {"type": "string", "contentEncoding": "base64"},
                "b64": {"type": "string", "contentEncoding": "base64"},
                "name": {"type": "string", "description": "repeated in the answer"},
            },
        },
    ]
}
_LIST: Document = {"type": "array", "items": {"$ref": "#/components/schemas/Image"}}
SCHEMAS: Document = {
    "Image": _IMAGE,
    "Images": {
        "description": "One image (`image`), or a list (`images`, `instances`).",
        "oneOf": [
            {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "string", "contentEncoding": "base64"}},
            },
            {"type": "object", "required": ["images"], "properties": {"images": _LIST}},
            {"type": "object", "required": ["instances"], "properties": {"instances": _LIST}},
        ],
    },
    "Scores": {
        "type": "array",
        "items": {"type": "number"},
        "description": "One probability per class, in the order of the classes.",
    },
    "Ranked": {
        "type": "array",
        "description": "Labels, best first: `verbose=true` or `top_k=N`.",
        "items": {
            "type": "object",
            "required": ["label", "probability"],
            "properties": {"label": {"type": "string"}, "probability": {"type": "number"}},
        },
    },
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string", "description": "One sentence for people."}},
    },
    "Named": {
        "type": "object",
        "required": ["name"],
        "description": "An image that has a name, with `scores`, `predictions` or `error`.",
        "properties": {
            "name": {"type": "string"},
            "scores": {"$ref": "#/components/schemas/Scores"},
            "predictions": {"$ref": "#/components/schemas/Ranked"},
            "error": {"type": "string"},
        },
    },
    "Explained": {
        "type": "object",
        "required": ["predictions", "explanation"],
        "description": "With `explain`: the answer, and what in the image speaks for a class.",
        "properties": {
            "name": {"type": "string"},
            "predictions": {
                "anyOf": [
                    {"$ref": "#/components/schemas/Scores"},
                    {"$ref": "#/components/schemas/Ranked"},
                ]
            },
            "explanation": {
                "type": "object",
                "required": ["method", "label", "shape", "map", "range", "image", "box"],
                "properties": {
                    "method": {"enum": list(METHODS)},
                    "label": {"type": "string"},
                    "probability": {"type": "number"},
                    "score": {"type": "number"},
                    "offset": {"type": ["number", "null"]},
                    "range": {"type": "array", "items": {"type": "number"}},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "map": {
                        "type": "array",
                        "items": {
                            "type": "array",
                            "items": {"type": "number", "minimum": 0, "maximum": 1},
                        },
                    },
                    "image": {"type": "object"},
                    "box": {"type": "object"},
                },
            },
        },
    },
    "Prediction": {
        "anyOf": [
            {"$ref": "#/components/schemas/Scores"},
            {"$ref": "#/components/schemas/Ranked"},
            {"$ref": "#/components/schemas/Explained"},
            {
                "type": "array",
                "description": "Of several images, an entry for each in order.",
                "items": {
                    "anyOf": [
                        {"$ref": f"#/components/schemas/{name}"}
                        for name in ("Scores", "Ranked", "Explained", "Named", "Error")
                    ]
                },
            },
        ]
    },
    "Model": {
        "type": "object",
        "required": ["modelName", "modelUrl"],
        "properties": {"modelName": {"type": "string"}, "modelUrl": {"type": "string"}},
    },
}

_BINARY: Document = {"schema": {"type": "string", "format": "binary"}}
_ATTRIBUTES: Document = {
    "name": "X-Amzn-SageMaker-Custom-Attributes",
    "in": "header",
    "schema": {"type": "string", "maxLength": 1024},
    "description": "`top_k=5`, `verbose=true`, `explain=cam`; other words are ignored.",
}
_NAME: Document = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def _response(text: str, schema: Document) -> Document:
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _named(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _errors(**sentences: str) -> Document:
    """Responses that are one sentence, by status: `_errors(_400="...")`."""
    return {
        status.removeprefix("_"): _response(text, _named("Error"))
        for status, text in sentences.items()
    }


_REFUSALS = _errors(
    _400="Not an image, or a body, header or parameter of another form.",
    _406="None of the media types in Accept can be given.",
    _408="The body did not arrive in time.",
    _413="Too many bytes, pixels or images.",
    _415="None of the media types that are accepted.",
    _500="The server failed; its log says why.",
    _501="A way to explain that this server does not have.",
    _503="Still loading, or too busy; try again after Retry-After seconds.",
)
_PREDICTION: Document = {
    "parameters": [_ATTRIBUTES],
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(IMAGE_TYPES, _BINARY),
            FORM_TYPE: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
            JSON: {"schema": _named("Images")},
            JSON_LINES: {"schema": {"type": "string", "description": "one image a line"}},
            "application/x-npy": _BINARY,
            "application/x-tar": _BINARY,
            "application/zip": _BINARY,
        },
    },
    "responses": {
        "200": {
            "description": "The prediction; of several images, each in its place.",
            "content": {
                JSON: {"schema": _named("Prediction")},
                JSON_LINES: {"schema": {"type": "string"}},
                CSV: {"schema": {"type": "string"}},
                PNG: _BINARY,
            },
        },
        **_REFUSALS,
    },
}
_OBJECT: Document = {"type": "object"}

ALWAYS: Document = {
    "/ping": {
        "get": {
            "summary": "Whether invocations are answered",
            "responses": {
                "200": _response("Ready.", _OBJECT),
                "503": _response("The model is still loading.", _OBJECT),
            },
        }
    },
    "/metrics": {
        "get": {
            "summary": "Counters in Prometheus's format",
            "responses": {
                "200": {
                    "description": "The counters.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                }
            },
        }
    },
    "/openapi.json": {
        "get": {
            "summary": "This description",
            "responses": {"200": _response("This description.", _OBJECT)},
        }
    },
}
ONE_MODEL: Document = {
    "/invocations": {"post": {"summary": "Classify images", **_PREDICTION}},
    "/execution-parameters": {
        "get": {
            "summary": "What suits a batch transform job",
            "responses": {"200": _response("The parameters.", _OBJECT)},
        }
    },
}
MANY_MODELS: Document = {
    "/models": {
        "get": {
            "summary": "The loaded models, a page at a time",
            "parameters": [
                {"name": "next_page_token", "in": "query", "schema": {"type": "string"}}
            ],
            "responses": {
                "200": _response(
                    "A page.",
                    {
                        "type": "object",
                        "required": ["models"],
                        "properties": {
                            "models": {"type": "array", "items": _named("Model")},
                            "nextPageToken": {"type": "string"},
                        },
                    },
                )
            },
        },
        "post": {
            "summary": "Load a model",
            "requestBody": {
                "required": True,
                "content": {
                    JSON: {
                        "schema": {
                            "type": "object",
                            "required": ["model_name", "url"],
                            "properties": {
                                "model_name": {"type": "string", "minLength": 1},
                                "url": {"type": "string", "minLength": 1},
                            },
                        }
                    }
                },
            },
            "responses": {
                "200": _response("Loaded.", _named("Model")),
                **_errors(
                    _400="Another form, a directory outside the models' folder, or no model in it.",
                    _409="The name is taken.",
                    _413="Too many bytes.",
                    _507="There is not enough memory.",
                    _503="Too busy.",
                ),
            },
        },
    },
    "/models/{name}": {
        "parameters": [_NAME],
        "get": {
            "summary": "One loaded model",
            "responses": {
                "200": _response("It is loaded.", _named("Model")),
                **_errors(_404="It is not loaded."),
            },
        },
        "delete": {
            "summary": "Unload a model; its memory is free once this is answered",
            "responses": {
                "200": _response("Unloaded.", _OBJECT),
                **_errors(_404="It is not loaded.", _503="Too busy."),
            },
        },
    },
    "/models/{name}/invoke": {
        "parameters": [_NAME],
        "post": {
            "summary": "Classify images with one of the models",
            **_PREDICTION,
            "responses": _PREDICTION["responses"] | _errors(_404="It is not loaded."),
        },
    },
}


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
