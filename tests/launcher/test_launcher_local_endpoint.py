import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serving_artifacts
from botocore.exceptions import ClientError
from launcher_workspace import Workspace
from PIL import Image

from container.errors import UserError
from launcher import endpoint, prediction
from launcher.local import processes
from launcher.local.jobs import ENDPOINT
from launcher.settings import Settings

pytest_plugins = ("launcher_fixtures",)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.tar.gz that was made without training."""
    directory = tmp_path_factory.mktemp("artifact")
    serving_artifacts.write(directory / "model")
    with tarfile.open(directory / "model.tar.gz", "w:gz", compresslevel=1) as file:
        for path in (directory / "model").iterdir():
            file.add(path, arcname=path.name)
    return directory / "model.tar.gz"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.jpg"
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(path)
    return path


def deploy(place: Workspace, archive: Path) -> None:
    answer = place.run("deploy", "--model", archive)
    assert answer.code == 0, answer.stderr


def server(place: Workspace) -> processes.Identity:
    record = place.client.folder.find(ENDPOINT, "kennel", "DescribeEndpoint")
    identity = processes.Identity.read(record["server"])
    assert identity
    return identity


def test_deploy_predict_update_delete(workspace: Workspace, archive: Path, image: Path) -> None:
    deploy(workspace, archive)
    first = server(workspace)
    answer = workspace.run("predict", image, "--top", "2", "--json")
    (answers,) = answer.json["predictions"].values()
    assert len(answers) == 2
    assert answers[0]["probability"] >= answers[1]["probability"]
    table = workspace.run("predict", image, workspace.data / "test")
    assert str(image) in table.stdout
    assert len(table.stdout.splitlines()) > 5

    # The endpoint that is there is updated: the old server goes when the new one answers.
    updated = workspace.run("deploy", "--model", archive)
    assert "Updating the endpoint" in updated.stdout
    second = server(workspace)
    assert first.pid != second.pid
    assert not first.runs()
    assert workspace.run("predict", image).code == 0

    status = workspace.run("status")
    assert "The endpoint kennel runs (InService)." in status.stdout
    assert workspace.run("delete").code == 1  # there is nobody to ask
    deleted = workspace.run("delete", "--yes", "--json")
    assert len(deleted.json["deleted"]) == 5  # the endpoint, two configurations, two models
    assert not second.runs()
    assert "There is no endpoint yet" in workspace.run("predict", image).stderr


def test_a_broken_model_leaves_the_old_one_in_service(
    workspace: Workspace, archive: Path, image: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tar.gz"
    with tarfile.open(broken, "w:gz") as file:
        file.addfile(tarfile.TarInfo("model.json"), io.BytesIO())
    alone = workspace.run("deploy", "--model", broken)
    assert alone.code == 1
    assert "The endpoint kennel did not come up" in alone.stderr
    assert "│" in alone.stdout  # the last lines of its log
    assert workspace.run("deploy", "--model", archive).code == 1  # it must be deleted first
    workspace.run("delete", "--yes")

    deploy(workspace, archive)
    second = workspace.run("deploy", "--model", broken)
    assert second.code == 1
    assert "it still serves the model from before" in second.stderr
    assert workspace.run("predict", image).code == 0


def test_a_dead_server_is_said_to_be_dead(workspace: Workspace, archive: Path, image: Path) -> None:
    deploy(workspace, archive)
    server(workspace).stop(10)
    found = workspace.client.describe_endpoint(EndpointName="kennel")
    assert found["EndpointStatus"] == "Failed"
    assert "not in service" in workspace.run("predict", image).stderr


def test_what_is_no_image_is_refused_with_the_containers_own_sentence(
    workspace: Workspace, archive: Path, tmp_path: Path
) -> None:
    deploy(workspace, archive)
    path = tmp_path / "no.jpg"
    path.write_bytes(b"no image")
    answer = workspace.run("predict", path)
    assert answer.code == 1
    assert answer.stderr.startswith("error: The endpoint refused: ")
    assert "{" not in answer.stderr


def test_an_image_that_is_refused_leaves_the_others_their_answers(
    workspace: Workspace, archive: Path, image: Path, tmp_path: Path
) -> None:
    deploy(workspace, archive)
    for name, body in {
        "no.jpg": b"no image",
        "large.png": bytes(prediction.LARGEST_BODY + 1),
    }.items():
        (tmp_path / name).write_bytes(body)
    given = ("predict", tmp_path / "no.jpg", image, tmp_path / "large.png")
    shown = workspace.run(*given)
    assert shown.code == 0, shown.stderr
    rows = {line.split()[0]: line for line in shown.stdout.splitlines()[1:4]}
    assert list(rows) == [str(path) for path in given[1:]]
    assert "The endpoint refused: " in rows[str(given[1])]
    assert "%" in rows[str(image)]
    answer = workspace.run(*given, "--json").json
    assert list(answer["predictions"]) == [str(image)]
    assert list(answer["refused"]) == [str(given[1]), str(given[3])]
    none = workspace.run(*given[:2], given[3])
    assert none.code == 1
    assert f"None of 2 images is answered. {given[1]}: The endpoint refused: " in none.stderr


def test_a_body_that_sagemaker_would_not_take_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(prediction.LARGEST_BODY + 1))
    with pytest.raises(UserError, match="an endpoint takes 6,291,456"):
        prediction.request("kennel", path, 3)


def test_no_proxy_is_asked_for_what_runs_on_this_machine(
    workspace: Workspace, archive: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    deployed = workspace.run("deploy", "--multi-model", archive)
    assert deployed.code == 0, deployed.stderr
    answer = workspace.run("predict", "--target", "model", image)
    assert answer.code == 0, answer.stderr


def test_references_are_checked(workspace: Workspace) -> None:
    variant = endpoint.instance_variant("missing", "ml.m5.large", 1)
    given: dict[str, Any] = endpoint.config_request(Settings(), "config", variant)
    with pytest.raises(ClientError, match="Could not find model 'missing'"):
        workspace.client.create_endpoint_config(**given)


@pytest.mark.parametrize(("machine", "driver"), [("ml.g5.xlarge", True), ("ml.m5.large", False)])
def test_gpu_endpoints_ask_for_a_driver_that_knows_the_images_cuda(
    machine: str, driver: bool
) -> None:
    variant = endpoint.instance_variant("model", machine, 1)
    assert ("InferenceAmiVersion" in variant) is driver


def test_an_asynchronous_endpoint_answers_into_files(
    workspace: Workspace, archive: Path, image: Path, tmp_path: Path
) -> None:
    assert workspace.run("deploy", "--model", archive, "--async").code == 0
    answer = workspace.run("predict", image, "--top", "2", "--json")
    assert answer.code == 0, answer.stderr
    (answers,) = answer.json["predictions"].values()
    assert len(answers) == 2
    (call,) = workspace.run("predict", image, "--dry-run").json["requests"]
    assert call["operation"] == "InvokeEndpointAsync"
    assert call["request"]["InputLocation"] == image.as_uri()
    assert list((workspace.path / ".kennel/jobs/results/async").rglob("*.out"))
    path = tmp_path / "no.jpg"
    path.write_bytes(b"no image")
    refused = workspace.run("predict", path)
    assert refused.code == 1
    assert "The endpoint kennel refused file://" in refused.stderr
    both = workspace.run("predict", path, image, "--json").json
    assert (list(both["refused"]), list(both["predictions"])) == ([str(path)], [str(image)])
    given = ("deploy", "--model", archive, "--async", "--serverless")
    assert "--serverless: not allowed with argument --async" in workspace.run(*given).stderr
