"""The bodies of requests and answers, as JSON Schema."""

from typing import Any

from container.serving.explanation.wanted import METHODS

Document = dict[str, Any]
"""A part of an OpenAPI description."""


def reference(name: str) -> Document:
    """One of SCHEMAS, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


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
_LIST: Document = {"type": "array", "items": reference("Image")}
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
            "scores": reference("Scores"),
            "predictions": reference("Ranked"),
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
                    reference("Scores"),
                    reference("Ranked"),
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
            reference("Scores"),
            reference("Ranked"),
            reference("Explained"),
            {
                "type": "array",
                "description": "Of several images, an entry for each in order.",
                "items": {
                    "anyOf": [
                        reference(name)
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
