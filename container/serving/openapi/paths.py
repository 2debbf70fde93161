"""The routes: what each takes, and how it answers."""

from container.serving.answer import CSV, JSON, JSON_LINES, PNG
from container.serving.inputs.payload import FORM_TYPE, IMAGE_TYPES, NPY_TYPE, TAR_TYPE, ZIP_TYPE
from container.serving.openapi.schemas import Document, reference

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


def _errors(**sentences: str) -> Document:
    """Responses that are one sentence, by status: `_errors(_400="...")`."""
    return {
        status.removeprefix("_"): _response(text, reference("Error"))
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
            JSON: {"schema": reference("Images")},
            JSON_LINES: {"schema": {"type": "string", "description": "one image a line"}},
            **dict.fromkeys((NPY_TYPE, TAR_TYPE, ZIP_TYPE), _BINARY),
        },
    },
    "responses": {
        "200": {
            "description": "The prediction; of several images, each in its place.",
            "content": {
                JSON: {"schema": reference("Prediction")},
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
                            "models": {"type": "array", "items": reference("Model")},
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
                "200": _response("Loaded.", reference("Model")),
                **_errors(
                    _400="Another form, a directory outside the models' folder, or no model in it.",
                    _408="The body did not arrive in time.",
                    _409="The name is taken.",
                    _413="Too many bytes.",
                    _500="The server failed; its log says why.",
                    _503="Too busy.",
                    _507="There is not enough memory.",
                ),
            },
        },
    },
    "/models/{name}": {
        "parameters": [_NAME],
        "get": {
            "summary": "One loaded model",
            "responses": {
                "200": _response("It is loaded.", reference("Model")),
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
