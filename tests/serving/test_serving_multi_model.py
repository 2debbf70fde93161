"""The contract of multi-model endpoints: several models in one process, coming and going."""

import dataclasses
import functools
import json
import os
import tempfile
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import serving_artifacts
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from serving_artifacts import encoded, photograph
from werkzeug.test import TestResponse

from container.artifact import Int8
from container.errors import UserError
from container.serving import settings as server_settings
from container.serving.app import create_app
from container.serving.engines import engine
from container.serving.models import memory, model_table, served
from container.serving.models.model_table import ModelTable

PHOTOGRAPH = encoded(photograph())
ARCHITECTURES = {"a": "resnet18", "b": "resnet34", "c": "resnet50"}
"""Models of several architectures, by the directories that SageMaker unpacks them to."""


@functools.cache
def models() -> tuple[tempfile.TemporaryDirectory[str], Path, dict[str, Any]]:
    """The models' folder, and each model's own answer for PHOTOGRAPH; removed at the end."""
    holder = tempfile.TemporaryDirectory()
    root = Path(holder.name).resolve()
    answers = {}
    for seed, (name, architecture) in enumerate(ARCHITECTURES.items()):
        serving_artifacts.write(root / name / "model", architecture, seed=seed)
        model = served.load(server_settings.parse({}), 0, root / name / "model")
        client = serving_artifacts.serving_client(model)
        answers[name] = client.post(
            "/invocations", data=PHOTOGRAPH, content_type="image/jpeg"
        ).get_json()
    return holder, root, answers


def client(
    left: int | None = None, root: Path | None = None, precision: str = "auto"
) -> FlaskClient:
    """A server without models yet, with so much memory left."""
    given = server_settings.parse({"SAGEMAKER_MULTI_MODEL": "true", "KENNEL_PRECISION": precision})
    place = root or models()[1]
    available = {} if left is None else {"available": lambda: left}
    needed = partial(engine.memory_needed, given)
    table = ModelTable(place, partial(served.load, given, 0), needed, **available)
    return create_app(table, given).test_client()


def load(server: FlaskClient, name: str, directory: str) -> TestResponse:
    return server.post("/models", json={"model_name": name, "url": directory})


def invoke(server: FlaskClient, name: str) -> TestResponse:
    return server.post(f"/models/{name}/invoke", data=PHOTOGRAPH, content_type="image/jpeg")


def url(name: str) -> str:
    return str(models()[1] / name / "model")


def test_a_model_is_loaded_listed_invoked_and_unloaded() -> None:
    server = client()
    assert server.get("/ping").status_code == 200, "SageMaker pings before it loads anything"
    assert server.get("/models").get_json() == {"models": []}
    hashed = "5c2f8cbf4ba64a7b8fe5f1a1ef7d4e6b"
    assert invoke(server, hashed).status_code == 404
    assert load(server, hashed, url("a")).status_code == 200
    described = {"modelName": hashed, "modelUrl": url("a")}
    assert server.get("/models").get_json() == {"models": [described]}
    assert server.get(f"/models/{hashed}").get_json() == described
    answered = invoke(server, hashed)
    assert answered.status_code == 200
    assert answered.get_json() == models()[2]["a"]
    again = load(server, hashed, url("a"))
    assert again.status_code == 409
    assert "loaded already" in again.get_json()["error"]
    assert server.delete(f"/models/{hashed}").status_code == 200
    for response in (
        server.delete(f"/models/{hashed}"),
        server.get(f"/models/{hashed}"),
        invoke(server, hashed),
    ):
        assert response.status_code == 404
        assert hashed in response.get_json()["error"]


def test_who_invokes_as_on_a_server_of_one_model_is_told_where_to() -> None:
    answer = client().post("/invocations", data=PHOTOGRAPH, content_type="image/jpeg")
    assert answer.status_code == 404
    assert "POST an image to /models/NAME/invoke." in answer.get_json()["error"]


def test_several_architectures_answer_side_by_side() -> None:
    server = client()
    for name in ARCHITECTURES:
        assert load(server, name, url(name)).status_code == 200
    for name in (*ARCHITECTURES, *ARCHITECTURES):
        assert invoke(server, name).get_json() == models()[2][name]
    assert len({json.dumps(answer) for answer in models()[2].values()}) == len(ARCHITECTURES)


def test_what_does_not_fit_is_507_before_memory_is_taken() -> None:
    weights = (Path(url("a")) / "model.safetensors").stat().st_size
    most = int(weights * engine.NEEDED_PER_WEIGHT["float32"]) + model_table.NEEDED_BESIDES
    refused = load(client(left=most - 1, precision="float32"), "a", url("a"))
    assert refused.status_code == 507
    assert "unload another" in refused.get_json()["error"]
    assert load(client(left=most, precision="float32"), "a", url("a")).status_code == 200
    server = client(left=0)
    assert load(server, "a", url("a")).status_code == 507
    assert server.get("/models").get_json() == {"models": []}


def test_a_model_whose_int8_form_is_refused_is_507_where_it_does_not_fit_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = serving_artifacts.write(tmp_path / "one")
    int8 = Int8(1.0, 1.0, 1, facts.reference_scores, "of a file that is not there")
    path = tmp_path / "one/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"int8": dataclasses.asdict(int8)}))
    size = (tmp_path / "one/model.safetensors").stat().st_size
    left = int(size * engine.NEEDED_PER_WEIGHT["int8"]) + model_table.NEEDED_BESIDES
    monkeypatch.setattr(memory, "available", lambda: size)
    refused = load(client(left=left, root=tmp_path), "one", "one")
    assert refused.status_code == 507
    monkeypatch.setattr(memory, "available", lambda: 4 * size)
    assert load(client(left=left, root=tmp_path), "one", "one").status_code == 200


def test_a_smaller_arithmetic_is_asked_for_less_memory() -> None:
    needed = [
        engine.memory_needed(server_settings.parse({"KENNEL_PRECISION": precision}), Path(url("a")))
        for precision in ("int8", "bfloat16", "float32")
    ]
    assert sorted(set(needed)) == needed


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A good model outside the models' folder `models`, and links to it inside."""
    serving_artifacts.write(tmp_path / "elsewhere")
    root = tmp_path / "models"
    (root / "half").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("model.json", "model.safetensors"):
        (root / "half" / name).symlink_to(tmp_path / "elsewhere" / name)
    (root / "circle").symlink_to(root / "circle")
    return root


def test_directories_outside_the_models_folder_are_refused(outside: Path) -> None:
    server = client(root=outside)
    for place in (
        "link",
        "half",
        "circle",
        "../elsewhere",
        str(outside / "../elsewhere"),
        str(outside.parent / "elsewhere"),
        str(outside),
        ".",
        "/",
        "a\0b",
        "x" * 5000,
    ):
        response = load(server, "name", place)
        assert response.status_code == 400, place
        assert "url" in response.get_json()["error"], place
    assert load(server, "name", "nothing").status_code == 400
    assert server.get("/models").get_json() == {"models": []}


@pytest.mark.parametrize("name", model_table.FILES)
def test_a_file_that_is_a_link_out_of_the_folder_or_a_pipe_is_refused(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "models/one" / name
    serving_artifacts.write(tmp_path / "models/one")
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    server = client(root=tmp_path / "models")
    os.mkfifo(tmp_path / "pipe")
    path.symlink_to(tmp_path / "pipe")
    outside = load(server, "one", "one")
    assert (outside.status_code, "url" in outside.get_json()["error"]) == (400, True)
    path.unlink()
    os.mkfifo(path)
    pipe = load(server, "one", "one")
    assert (pipe.status_code, "regular file" in pipe.get_json()["error"]) == (400, True)


DAMAGE: list[dict[str, object]] = [
    {"preprocessing": {"image_size": float("inf"), "resize_size": 32}},
    {"reference_scores": [[10**400]]},
]


@pytest.mark.parametrize("facts", ["[" * 100_000, *map(json.dumps, DAMAGE)])
def test_damaged_facts_are_400(tmp_path: Path, facts: str) -> None:
    serving_artifacts.write(tmp_path / "one")
    path = tmp_path / "one/model.json"
    if facts.startswith("{"):
        facts = json.dumps(json.loads(path.read_text()) | json.loads(facts))
    path.write_text(facts)
    refused = load(client(root=tmp_path), "one", "one")
    assert refused.status_code == 400
    assert "model.json" in refused.get_json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"model_name": "a"}',
        b'{"model_name": 1, "url": "a"}',
        b'{"model_name": "", "url": "a"}',
        b'{"model_name": "a/b", "url": "a"}',
        b"[" * 100_000,
    ],
)
def test_another_body_is_400(body: bytes) -> None:
    response = client().post("/models", data=body)
    assert response.status_code == 400
    assert list(response.get_json()) == ["error"]


def test_the_list_has_pages_that_neither_repeat_nor_forget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_table, "PAGE", 2)
    server = client()
    names = ["m & m", "n=1", "o", "p", "q"]
    for name in names:
        assert load(server, name, url("a")).status_code == 200
    seen: list[str] = []
    token = ""
    while True:
        page = server.get("/models", query_string={"next_page_token": token}).get_json()
        seen += [model["modelName"] for model in page["models"]]
        if "nextPageToken" not in page:
            break
        token = page["nextPageToken"]
        assert server.delete(f"/models/{seen[0]}").status_code in (200, 404)
    assert seen == names


def test_unloading_waits_for_those_who_use_the_model() -> None:
    entered, leave, unloaded = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []
    loaded = served.load(server_settings.parse({}), 0, Path(url("a")))

    class Slow:
        title = description = "slow"
        classifier = None

        def reply(self, call: Any) -> Any:
            entered.set()
            assert leave.wait(30)
            order.append("answered")
            return loaded.reply(call)

    given = server_settings.parse({"SAGEMAKER_MULTI_MODEL": "true"})
    server = create_app(
        ModelTable(models()[1], lambda directory: Slow(), lambda directory: 0), given
    ).test_client()
    assert load(server, "slow", url("a")).status_code == 200

    def unload() -> None:
        assert server.delete("/models/slow").status_code == 200
        order.append("unloaded")
        unloaded.set()

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(invoke, server, "slow")
        assert entered.wait(30)
        pool.submit(unload)
        while server.get("/models/slow").status_code == 200:
            pass
        assert load(server, "slow", url("a")).status_code == 409, "it still takes its memory"
        assert not unloaded.is_set()
        leave.set()
        assert answer.result().status_code == 200
    assert order == ["answered", "unloaded"]


def test_what_a_failed_load_has_read_is_free_before_memory_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Weights:
        pass

    left: list[Any] = []
    at_the_end: list[bool] = []

    def fail(directory: Path) -> Any:
        weights = Weights()
        left.append(weakref.ref(weights))
        try:
            raise ValueError("a sentence's reason")
        except ValueError as error:
            raise UserError("no such model") from error

    monkeypatch.setattr(
        model_table, "give_back_freed_memory", lambda: at_the_end.append(left[0]() is None)
    )
    table = ModelTable(models()[1], fail, lambda directory: 0)
    with pytest.raises(model_table.ModelTableError):
        table.load("a", url("a"))
    assert at_the_end == [True]


NAMES = st.sampled_from(["first", "second", "third"])
OPERATIONS = st.tuples(
    st.sampled_from(["load", "load", "unload", "invoke", "invoke", "invoke"]),
    NAMES,
    st.sampled_from(sorted(ARCHITECTURES)[:2]),
)


class Endpoint(RuleBasedStateMachine):
    """Operations at the same time: whatever their order, what each answers must fit together."""

    def __init__(self) -> None:
        super().__init__()
        self.server = client()
        self.loaded: dict[str, str] = {}

    @rule(operations=st.lists(OPERATIONS, min_size=1, max_size=8))
    def together(self, operations: list[tuple[str, str, str]]) -> None:
        start = threading.Barrier(len(operations))

        def run(operation: str, name: str, place: str) -> TestResponse:
            start.wait(30)
            if operation == "load":
                return load(self.server, name, url(place))
            if operation == "unload":
                return self.server.delete(f"/models/{name}")
            return invoke(self.server, name)

        with ThreadPoolExecutor(len(operations)) as pool:
            answers = list(pool.map(lambda given: run(*given), operations))
        for name in {name for _, name, _ in operations}:
            self.check(
                name,
                [
                    (operation, place, answer)
                    for (operation, called, place), answer in zip(operations, answers, strict=True)
                    if called == name
                ],
            )

    def check(self, name: str, done: list[tuple[str, str, TestResponse]]) -> None:
        changes = Counter(
            (operation, answer.status_code)
            for operation, _, answer in done
            if operation != "invoke"
        )
        assert set(changes) <= {("load", 200), ("load", 409), ("unload", 200), ("unload", 404)}
        before = name in self.loaded
        now = before + changes["load", 200] - changes["unload", 200]
        assert now in (0, 1), "a name is loaded at most once"
        possible = {self.loaded[name]} if before else set()
        possible |= {
            place for op, place, answer in done if (op, answer.status_code) == ("load", 200)
        }
        right = [models()[2][place] for place in possible]
        for operation, _, answer in done:
            if operation == "invoke" and answer.status_code == 200:
                assert answer.get_json() in right, "the answer of another model"
            elif operation == "invoke":
                assert answer.status_code == 404
                assert not before or changes["unload", 200], "it was there all the time"
        listed = self.server.get(f"/models/{name}")
        assert listed.status_code == (200 if now else 404)
        self.loaded.pop(name, None)
        if now:
            self.loaded[name] = Path(listed.get_json()["modelUrl"]).parent.name
            assert self.loaded[name] in possible

    @invariant()
    def the_list_and_the_answers_are_right(self) -> None:
        listed = self.server.get("/models").get_json()["models"]
        assert [model["modelName"] for model in listed] == sorted(self.loaded)
        for name, place in self.loaded.items():
            assert invoke(self.server, name).get_json() == models()[2][place]


TestEndpoint = Endpoint.TestCase
TestEndpoint.settings = settings(
    max_examples=8,
    stateful_step_count=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
