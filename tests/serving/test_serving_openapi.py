"""`/openapi.json` names every route, and requests made from it get the answers that it promises."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
import schemathesis
import serving_artifacts
import serving_requests as bodies
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from serving_artifacts import encoded, photograph
from werkzeug.test import Client

from container.serving import answer
from container.serving import settings as server_settings
from container.serving.app import create_app
from container.serving.inputs import payload
from container.serving.models import served
from container.serving.models.loading import Loading
from container.serving.models.model_table import ModelTable

IMAGE = encoded(photograph(size=(40, 30)))
ENCODED = st.binary(max_size=200) | st.just(IMAGE)
for media_type in (*payload.IMAGE_TYPES, "application/x-npy", "application/x-tar"):
    schemathesis.openapi.media_type(media_type, ENCODED)
schemathesis.openapi.media_type("application/zip", st.just(bodies.zipped([("a.jpg", IMAGE)])))
schemathesis.openapi.media_type(answer.JSON_LINES, st.just(bodies.lines(IMAGE)) | st.binary())


def one_model() -> Flask:
    present = serving_artifacts.pipeline()
    loading = Loading(lambda: present, lambda error: None)
    loading.model = present
    return create_app(loading, server_settings.parse({}))


def many_models() -> Flask:
    given = server_settings.parse({"SAGEMAKER_MULTI_MODEL": "true"})
    table = ModelTable(
        Path("/nonexistent"), functools.partial(served.load, given, 0), lambda directory: 0
    )
    return create_app(table, given)


APPS = {"one model": one_model, "many models": many_models}


@pytest.mark.parametrize("mode", APPS)
def test_every_route_is_described_and_nothing_else(mode: str) -> None:
    app = APPS[mode]()
    document = json.loads(Client(app).get("/openapi.json").data)
    described = {
        (path, method.upper())
        for path, methods in document["paths"].items()
        for method in methods
        if method != "parameters"
    }
    served_routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("page.")  # for people, not for programs
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    assert described == served_routes


@pytest.mark.parametrize("mode", APPS)
def test_the_document_keeps_to_openapi_and_all_that_it_refers_to_is_in_it(mode: str) -> None:
    document = json.loads(Client(APPS[mode]()).get("/openapi.json").data)
    openapi_spec_validator.validate(document)
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        assert functools.reduce(lambda part, name: part[name], reference.split("/"), document)


def test_every_media_type_is_described() -> None:
    document = json.loads(Client(one_model()).get("/openapi.json").data)
    operation = document["paths"]["/invocations"]["post"]
    assert set(operation["requestBody"]["content"]) == set(payload.ACCEPTED)
    answers = operation["responses"]["200"]["content"]
    assert {answer.JSON, answer.JSON_LINES, answer.CSV} <= set(answers)


def test_what_loading_a_model_may_answer_is_described() -> None:
    document = json.loads(Client(many_models()).get("/openapi.json").data)
    described = document["paths"]["/models"]["post"]["responses"]
    assert set(described) == {"200", "400", "408", "409", "413", "500", "503", "507"}


def schema(mode: str) -> Any:
    return schemathesis.openapi.from_wsgi("/openapi.json", APPS[mode]())


one = schema("one model")
many = schema("many models")
# That bytes are an image, and a directory a model, no schema can say; and what is wrong with one
# image of several is an error in its place.
BEYOND_SCHEMAS = [negative_data_rejection, positive_data_acceptance]
bounded = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False
)


@one.parametrize()  # type: ignore[untyped-decorator]
@bounded
def test_answers_of_one_model_are_as_described(case: Any) -> None:
    case.call_and_validate(excluded_checks=BEYOND_SCHEMAS)


@many.parametrize()  # type: ignore[untyped-decorator]
@bounded
def test_answers_of_many_models_are_as_described(case: Any) -> None:
    case.call_and_validate(excluded_checks=BEYOND_SCHEMAS)
