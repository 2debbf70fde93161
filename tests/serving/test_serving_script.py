"""A model's own code/inference.py, with any of its four functions."""

import base64
import json
import sys
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import numpy as np
import pytest
import serving_artifacts
from flask.testing import FlaskClient
from serving_artifacts import encoded, photograph
from werkzeug.test import TestResponse

from container.errors import UserError
from container.serving import invocation, settings
from container.serving.models import served

PHOTOGRAPH = encoded(photograph())


def write_script(directory: Path, text: str) -> None:
    (directory / "code").mkdir(parents=True)
    (directory / "code/inference.py").write_text(dedent(text))


def client(directory: Path, text: str, **environment: str) -> FlaskClient:
    """A server of the model in a directory, with a script beside it."""
    write_script(directory, text)
    given = settings.parse({"KENNEL_SCRIPT": "true"} | environment)
    return serving_artifacts.serving_client(served.load(given, 0, directory))


def post(
    server: FlaskClient, body: bytes = PHOTOGRAPH, kind: str = "image/jpeg", accept: str = "*/*"
) -> TestResponse:
    return server.post("/invocations", data=body, content_type=kind, headers={"Accept": accept})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    serving_artifacts.write(tmp_path / "model")
    return tmp_path / "model"


def plain(directory: Path) -> list[float]:
    """Kennel's own answer."""
    loaded = served.load(settings.parse({}), 0, directory)
    answer: list[float] = post(serving_artifacts.serving_client(loaded)).get_json()
    return answer


EVERYTHING = """
    import json
    from beside import LABEL

    def model_fn(model_dir):
        return {"directory": model_dir}

    def input_fn(body, content_type):
        if content_type != "text/plain":
            raise ValueError(f"no {content_type} here")
        return body.decode()

    def predict_fn(text, model):
        return {"text": text, "label": LABEL, **model}

    def output_fn(prediction, accept):
        if accept == "text/html":
            raise ValueError("no pages")
        return json.dumps(prediction), "application/vnd.own+json"
"""


def test_all_four_functions_replace_the_model_and_need_none_of_kennel_s(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/beside.py").write_text("LABEL = 'own'\n")
    (tmp_path / "code/inference.py").write_text(dedent(EVERYTHING))
    given = settings.parse({"KENNEL_SCRIPT": "true"})
    server = serving_artifacts.serving_client(served.load(given, 0, tmp_path))
    assert server.get("/ping").status_code == 200
    response = post(server, b"hello", "text/plain")
    assert response.mimetype == "application/vnd.own+json"
    assert json.loads(response.data) == {
        "text": "hello",
        "label": "own",
        "directory": str(tmp_path),
    }
    refused = post(server)
    assert refused.status_code == 415
    assert "no image/jpeg here" in refused.get_json()["error"]
    assert post(server, b"hello", "text/plain", "text/html").status_code == 406


def test_a_script_runs_only_where_it_is_allowed(model: Path, tmp_path: Path) -> None:
    expected = plain(model)
    mark = tmp_path / "ran"
    write_script(model, f"open({str(mark)!r}, 'w')\ndef predict_fn(data, model): return [1]\n")
    for environment in ({}, {"KENNEL_SCRIPT": "false"}):
        loaded = served.load(settings.parse(environment), 0, model)
        assert post(serving_artifacts.serving_client(loaded)).get_json() == expected
    assert not mark.exists()


def test_kennel_does_what_the_script_leaves_out(model: Path) -> None:
    expected = plain(model)
    server = client(
        model,
        """
        import base64

        def input_fn(body, content_type):
            return base64.b64decode(body)
        """,
    )
    answer = post(server, base64.b64encode(PHOTOGRAPH), "text/plain")
    assert answer.get_json() == expected
    ranked = post(server, base64.b64encode(PHOTOGRAPH), "text/plain", "application/json; top_k=1")
    assert ranked.get_json()[0]["probability"] == pytest.approx(max(expected), abs=1e-6)


def test_predict_fn_gets_kennel_s_input_and_model(model: Path) -> None:
    expected = plain(model)
    server = client(
        model,
        """
        def predict_fn(data, model, context):
            first = model.probabilities(data.items[0].content)
            return {"best": model.facts.classes[int(first.argmax())], "images": len(data.items)}
        """,
    )
    answer = post(server).get_json()
    best = serving_artifacts.CLASSES[expected.index(max(expected))]
    assert answer == {"best": best, "images": 1}


def test_output_fn_gets_kennel_s_probabilities(model: Path) -> None:
    expected = plain(model)
    server = client(model, "def output_fn(prediction, accept): return f'{prediction.max():.4f}'\n")
    response = post(server, accept="text/plain")
    assert response.mimetype == "text/plain"
    assert float(response.text) == pytest.approx(max(expected), abs=1e-4)
    assert post(server, b"no image").status_code == 400


def test_output_fn_gets_a_row_for_each_of_several_images(model: Path) -> None:
    server = client(model, "def output_fn(scores, accept): return f'{scores.shape}'\n")
    two = serving_artifacts.npy(np.zeros((2, 40, 40, 3), np.uint8))
    for body, shape in ((two, "(2, 5)"), (PHOTOGRAPH, "(5,)")):
        kind = "application/x-npy" if body is two else "image/jpeg"
        assert post(server, body, kind, "text/plain").text == shape
    assert server.get("/ping").get_json()["engine"] == "code/inference.py (output_fn)"


def test_a_model_of_its_own_is_called(tmp_path: Path) -> None:
    server = client(
        tmp_path,
        """
        import numpy

        def model_fn(model_dir):
            return lambda given: numpy.arange(len(given.items))
        """,
    )
    assert post(server).get_json() == [0]


def test_what_fails_inside_the_script_is_500_and_logged(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = client(model, "def predict_fn(data, model): raise KeyError('inner secret')\n")
    response = post(server)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "inner secret" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing = 1\n", "defines none of"),
        ("def model_fn(:\n", "SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("def model_fn(model_dir): raise OSError('no weights')\n", "OSError: no weights"),
        ("import sys\nsys.exit('no licence')\n", "SystemExit: no licence"),
        ("def model_fn(model_dir): raise SystemExit(3)\n", r"model_fn called sys.exit\(3\)"),
    ],
)
def test_a_script_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        client(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "def predict_fn(data, model): raise SystemExit(3)\n",
        "def model_fn(path): return lambda given: __import__('sys').exit(3)\n",
    ],
)
def test_a_script_that_exits_ends_its_request_alone(
    model: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    assert post(client(model, text)).status_code == 500
    assert "called sys.exit(3)" in caplog.text


def test_each_model_of_a_multi_model_endpoint_has_its_own_script(tmp_path: Path) -> None:
    answers = []
    for name in ("one", "two"):
        text = f"def predict_fn(data, model): return {name!r}\ndef model_fn(path): return None\n"
        answers.append(post(client(tmp_path / name, text)).get_json())
    assert answers == ["one", "two"]


def with_label(directory: Path, label: str) -> FlaskClient:
    """A server of a script that answers with what a module beside it says."""
    (directory / "code/more").mkdir(parents=True, exist_ok=True)
    (directory / "code/labels.py").write_text(f"NAME = {label!r}\n")
    (directory / "code/more/names.py").write_text(f"NAME = {label!r}\n")
    (directory / "code/inference.py").write_text(
        "import labels\nfrom more import names\n"
        "def model_fn(path): return None\n"
        "def predict_fn(data, model): return [labels.NAME, names.NAME]\n"
    )
    given = settings.parse({"KENNEL_SCRIPT": "true"})
    return serving_artifacts.serving_client(served.load(given, 0, directory))


def test_each_script_has_the_modules_beside_it_and_so_has_its_next_version(tmp_path: Path) -> None:
    known, path = set(sys.modules), list(sys.path)
    first, second = with_label(tmp_path / "a", "one"), with_label(tmp_path / "b", "other")
    newer = with_label(tmp_path / "a", "the first anew")
    answers = [post(server).get_json() for server in (first, second, newer)]
    assert answers == [["one"] * 2, ["other"] * 2, ["the first anew"] * 2]
    assert {"labels", "more", "more.names"}.isdisjoint(set(sys.modules) - known)
    assert sys.path == path


def test_a_module_from_elsewhere_stays_when_the_script_is_loaded(tmp_path: Path) -> None:
    sys.modules.pop("this", None)
    text = "import this\ndef model_fn(path): return None\ndef predict_fn(d, m): return this.d\n"
    client(tmp_path, text)
    assert "this" in sys.modules


def test_a_script_may_use_dataclasses_whose_annotations_are_text(tmp_path: Path) -> None:
    text = """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Answer:
            text: str

        def model_fn(path): return Answer("yes")
        def predict_fn(data, model): return model.text
    """
    assert post(client(tmp_path, text)).get_json() == "yes"


def test_model_fn_may_import_the_modules_beside_the_script(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/late.py").write_text("def answer(given): return 'late'\n")
    (tmp_path / "code/inference.py").write_text(
        "def model_fn(path):\n    import late\n    return late.answer\n"
    )
    given = settings.parse({"KENNEL_SCRIPT": "true"})
    server = serving_artifacts.serving_client(served.load(given, 0, tmp_path))
    assert post(server).get_json() == "late"


NAMED = b"\n".join(
    json.dumps({"name": name, "image": base64.b64encode(PHOTOGRAPH).decode()}).encode()
    for name in ("one", "two")
)
LINES = "application/jsonlines"


@pytest.mark.parametrize(
    ("prediction", "entry"),
    [
        ("numpy.stack([numpy.full(5, 0.2)] * len(data.items))", {"scores": [0.2] * 5}),
        ("numpy.arange(len(data.items)) * 0", {"prediction": 0}),
        ("numpy.zeros((len(data.items), 3))", {"prediction": [0.0] * 3}),
        ("numpy.full((len(data.items), 5), 'owl')", {"prediction": ["owl"] * 5}),
        ("[{'best': 'cat'} for _ in data.items]", {"prediction": {"best": "cat"}}),
    ],
)
def test_what_predict_fn_says_of_lines_is_answered_line_by_line_with_their_names(
    model: Path, prediction: str, entry: dict[str, object]
) -> None:
    server = client(model, f"import numpy\ndef predict_fn(data, model): return {prediction}\n")
    answer = post(server, NAMED, LINES)
    assert answer.mimetype == LINES
    expected = [{"name": name} | entry for name in ("one", "two")]
    assert [json.loads(line) for line in answer.text.splitlines()] == expected
    whole = post(server, NAMED, LINES, "application/json")
    assert (whole.mimetype, whole.get_json()) == ("application/json", expected)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("numpy.array(['cat', 'dog'])", ["cat", "dog"]),
        ("numpy.array(['cat'] * 5)", ["cat"] * 5),
        ("numpy.arange(5)", [0, 1, 2, 3, 4]),
        ("numpy.zeros(3)", [0.0] * 3),
        ("numpy.zeros((1, 6))", [[0.0] * 6]),
        ("numpy.zeros((1, 1, 5))", [[[0.0] * 5]]),
        ("numpy.array(0.5)", 0.5),
    ],
)
def test_an_array_that_is_not_one_probability_for_each_class_is_answered_as_it_is(
    model: Path, prediction: str, expected: object
) -> None:
    server = client(model, f"import numpy\ndef predict_fn(data, model): return {prediction}\n")
    for accept in ("*/*", "application/json; top_k=1"):
        answer = post(server, accept=accept)
        assert (answer.status_code, answer.get_json()) == (200, expected)


def test_what_predict_fn_says_of_all_lines_together_is_one_line(model: Path) -> None:
    server = client(model, "def predict_fn(data, model): return {'images': len(data.items)}\n")
    answer = post(server, NAMED, LINES)
    assert (answer.mimetype, answer.text) == (LINES, '{"images": 2}\n')


@pytest.mark.parametrize("prediction", ["model.probabilities(data.items[0].content)", "'owl'"])
def test_an_answer_of_a_form_that_a_script_s_model_has_not_is_refused(
    model: Path, prediction: str
) -> None:
    server = client(model, f"def predict_fn(data, model): return {prediction}\n")
    statuses = {
        "image/png": 406,
        "application/pdf": 406,
        "image/png, */*; q=0.1": 200,
        "application/json; explain=cam": 501,
        "application/json; top_k=0": 400,
        "application/json": 200,
    }
    answers = {accept: post(server, accept=accept) for accept in statuses}
    assert {accept: answer.status_code for accept, answer in answers.items()} == statuses
    assert {answer.mimetype for answer in answers.values()} == {"application/json"}


@pytest.mark.parametrize(
    "text",
    [
        "def predict_fn(data, model): return [item.content[0] for item in data.items][0]\n",
        "def output_fn(prediction, accept): return str(len(prediction))\n",
    ],
)
def test_a_script_sees_all_images_of_a_request_or_none(model: Path, text: str) -> None:
    server = client(model, text)
    nothing = post(server, b'{"images": []}', "application/json")
    assert (nothing.status_code, "no image" in nothing.text) == (400, True)
    damaged = post(server, NAMED + b'\n{"image": "!"}', LINES)
    assert (damaged.status_code, "base64" in damaged.text) == (400, True)
    assert post(server, NAMED, LINES).status_code == 200


def test_no_images_from_input_fn_are_400(model: Path) -> None:
    answer = post(client(model, "def input_fn(body, content_type): return []\n"))
    assert (answer.status_code, "no image" in answer.text) == (400, True)


def test_images_that_were_not_begun_in_time_are_503(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = client(model, "def output_fn(prediction, accept): return str(len(prediction))\n")
    seconds = iter([0.0, *[1e6] * 10])
    monkeypatch.setattr(invocation, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    late = post(server, NAMED, LINES)
    assert (late.status_code, "used up" in late.get_json()["error"]) == (503, True)
