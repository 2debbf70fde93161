"""What Prometheus scrapes from `/metrics`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import serving_artifacts
import serving_requests as bodies
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from serving_artifacts import encoded, photograph

from container.serving import settings
from container.serving.models import served

IMAGE = encoded(photograph())


@pytest.fixture
def client() -> Iterator[FlaskClient]:
    with serving_artifacts.client() as client:
        yield client


def samples(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """Every sample by its name and what its labels say, first the route."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    return {
        (
            sample.name,
            *(said for _, said in sorted(sample.labels.items(), reverse=True)),
        ): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_code(client: FlaskClient) -> None:
    for body, status in ((IMAGE, 200), (IMAGE, 200), (b"no image", 400)):
        answered = client.post("/invocations", data=body, content_type="image/jpeg")
        assert answered.status_code == status
    client.get("/ping")
    for path in ("/a", "/b", "/c"):
        client.get(path)
    seen = samples(client)
    assert seen["kennel_requests_total", "/invocations", "200"] == 2
    assert seen["kennel_requests_total", "/invocations", "400"] == 1
    assert seen["kennel_requests_total", "/ping", "200"] == 1
    assert seen["kennel_requests_total", "other", "404"] == 3
    assert not [key for key in seen if "/a" in key], "clients cannot make series"
    assert seen["kennel_request_seconds_count", "/invocations"] == 3
    assert 0 < seen["kennel_request_seconds_sum", "/invocations"] < 60


def test_images_batches_queues_and_the_model_are_shown(client: FlaskClient) -> None:
    before = samples(client)
    client.post("/invocations", data=IMAGE, content_type="image/jpeg")
    client.post("/invocations", data=bodies.form(*[IMAGE] * 3), content_type=bodies.FORM_TYPE)
    seen = samples(client)
    assert seen["kennel_request_images_count",] == 2
    assert seen["kennel_request_images_sum",] == 4
    assert seen["kennel_batch_images_sum",] - before["kennel_batch_images_sum",] == 4
    assert seen["kennel_batch_images_bucket", "+Inf"] >= seen["kennel_batch_images_bucket", "1"]
    assert seen["kennel_requests_running",] == 0
    assert seen["kennel_images_waiting",] == 0
    assert seen["kennel_images_running",] == 0
    assert seen["kennel_models_loaded",] == 1
    assert seen["kennel_model_load_seconds",] >= 0


def test_images_that_a_script_has_kennel_score_are_counted_too(tmp_path: Path) -> None:
    serving_artifacts.write(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code/inference.py").write_text("def output_fn(scores, accept): return 'seen'\n")
    scripted = served.load(settings.parse({"KENNEL_SCRIPT": "true"}), 0, tmp_path)
    client = serving_artifacts.serving_client(scripted)
    answered = client.post("/invocations", data=IMAGE, content_type="image/jpeg")
    assert answered.text == "seen"
    assert samples(client)["kennel_batch_images_sum",] == 1


def test_servers_in_one_process_count_for_themselves() -> None:
    first, second = serving_artifacts.client(), serving_artifacts.client()
    first.get("/ping")
    assert ("kennel_requests_total", "/ping", "200") in samples(first)
    assert ("kennel_requests_total", "/ping", "200") not in samples(second)


def test_a_request_that_fails_inside_is_counted_as_500(client: FlaskClient) -> None:
    class Broken:
        title = description = "broken"
        classifier = None

        def reply(self, call: object) -> object:
            raise RuntimeError("broken")

    broken = serving_artifacts.serving_client(Broken())  # type: ignore[arg-type]  # never answers
    assert broken.post("/invocations", data=IMAGE).status_code == 500
    assert samples(broken)["kennel_requests_total", "/invocations", "500"] == 1
    assert json.loads(broken.get("/ping").data)["status"] == "ready"
