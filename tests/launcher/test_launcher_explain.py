"""`launch.py explain`: through a real endpoint of this machine, and Clarify's request."""

import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import serving_artifacts
from launcher_workspace import REGION, ROLE, Workspace, aws, scrubbed
from serving_artifacts import encoded, photograph

from container.errors import UserError
from launcher import clarify, explanation, explanation_page
from launcher.explanation import Evidence, Explained, Question

pytest_plugins = ("launcher_fixtures", "launcher_moto")

CLASSES = ("plain", "with, comma", "größer", "<b>last</b>")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.tar.gz that was made without training."""
    directory = tmp_path_factory.mktemp("artifact")
    serving_artifacts.write(directory / "model", classes=CLASSES)
    with tarfile.open(directory / "model.tar.gz", "w:gz", compresslevel=1) as file:
        for path in (directory / "model").iterdir():
            file.add(path, arcname=path.name)
    return directory / "model.tar.gz"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images in folders that name classes, and one file that is none."""
    folder = tmp_path / "images"
    for number in range(6):
        place = folder / CLASSES[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(encoded(photograph(number)))
    (folder / "plain/broken.jpg").write_bytes(b"no image")
    return folder


def test_a_folder_is_explained_on_one_page(
    workspace: Workspace, archive: Path, images: Path
) -> None:
    deployed = workspace.run("deploy", "--model", archive)
    assert deployed.code == 0, deployed.stderr
    dry = workspace.run("explain", images, "--dry-run").json["requests"][0]
    assert dry["operation"] == "InvokeEndpoint"
    assert "explain=cam" in dry["request"]["Accept"]
    assert not (workspace.path / "explain.html").exists()

    answer = workspace.run("explain", images, "--json")
    assert answer.code == 0, answer.stderr
    assert "Explaining 7 of 7 images by kennel (cam)" in answer.stderr
    assert list(answer.json["refused"]) == [str(images / "plain/broken.jpg")]
    assert "not an image" in answer.json["refused"][str(images / "plain/broken.jpg")]
    assert answer.json["accuracy"] == pytest.approx(1 - len(answer.json["wrong"]) / 6)
    page = (workspace.path / "explain.html").read_text()
    assert set(re.findall(r'src="(.{11})', page)) == {"data:image/"}
    assert not re.search(r"<script|https?://", page)
    # A wrong answer shows the evidence for the folder's class too.
    assert page.count("<figure>") == 6 + len(answer.json["wrong"])
    assert len(answer.json["wrong"]) > 0
    assert page.index("Wrong, the surest first") < page.index("The least sure first")

    one = ("explain", images / "plain/0.jpg", "--class", "größer", "--output", "one.html")
    assert workspace.run(*one, "--method", "occlusion").code == 0
    page = (workspace.path / "one.html").read_text()
    assert "<b>größer, " in page
    assert "Occlusion" in page

    refused = workspace.run("explain", images, "--class", "cat")
    assert refused.code == 1
    assert "no class 'cat'" in refused.stderr
    only = workspace.run("explain", images / "plain/broken.jpg")
    assert "refused every image" in only.stderr


def explained(name: str, share: float, truth: str | None = None, kilobytes: int = 1) -> Explained:
    picture = "data:image/webp;base64," + base64.b64encode(bytes(1000 * kilobytes)).decode()
    predictions = (("cat", share), ("dog", 1 - share))
    evidence = Evidence("cat", share, picture)
    return Explained(Path(truth or "any", name), predictions, evidence, "data:image/jpeg;base64,")


def test_wrong_ones_come_first_and_the_least_sure_next() -> None:
    given = [
        explained("sure", 0.9, "cat"),
        explained("doubtful", 0.6, "cat"),
        explained("slightly-wrong", 0.55, "dog"),
        explained("wrong", 0.99, "dog"),
        explained("unjudged", 0.7),
    ]
    order = [each.path.name for each in explanation.in_order(given)]
    assert order == ["wrong", "slightly-wrong", "doubtful", "unjudged", "sure"]
    assert explanation.accuracy(given) == 0.5
    assert explanation.accuracy(given[-1:]) is None


def test_a_page_of_many_images_stays_small_and_names_all_of_them() -> None:
    given = [explained(f"{n}.jpg", 0.6, "cat", kilobytes=20) for n in range(400)]
    page = explanation_page.page(given, endpoint="kennel", method="cam")
    assert len(page.encode()) < 3_000_000
    assert "Without pictures" in page
    assert all(f"cat/{n}.jpg" in page for n in range(400))


def test_names_are_text_on_the_page() -> None:
    page = explanation_page.page(
        [explained("<img src=x onerror=alert(1)>.jpg", 0.6)], endpoint="<i>", method="cam"
    )
    assert "<img src=x" not in page
    assert "<i>" not in page.replace("<i></i>", "")


def test_pictures_from_elsewhere_are_refused(images: Path) -> None:
    class Runtime:
        def invoke_endpoint(self, **_request: object) -> object:
            content = {
                "predictions": [{"label": "a", "probability": 1.0}],
                "explanation": {"layer": "https://example.com/x.png"},
            }
            return {"Body": io.BytesIO(json.dumps(content).encode())}

    with pytest.raises(UserError, match="does not explain its answers"):
        list(explanation.explain_all(Runtime(), Question("e", "cam"), [images / "plain/0.jpg"]))


def test_clarify_is_refused_on_this_machine(workspace: Workspace, images: Path) -> None:
    refused = workspace.run("explain", images, "--endpoint", "kennel", "--clarify")
    assert "--clarify runs on SageMaker" in refused.stderr


def test_clarify_s_configuration_fits_the_schema_of_aws_s_own_library() -> None:
    if importlib.util.find_spec("sagemaker") is None:
        pytest.skip("SageMaker's SDK does not install on this Python")
    # A process of its own: the library is large and its warnings are not ours.
    program = (
        "import json, sys, sagemaker.core.clarify as clarify\n"
        "clarify.ANALYSIS_CONFIG_SCHEMA_V1_0.validate(json.loads(sys.argv[1]))"
    )
    given = json.dumps(clarify.analysis("kennel"))
    subprocess.run([sys.executable, "-c", program, given], check=True, env=scrubbed())


def test_clarify_s_processing_job(cloud: Workspace, images: Path) -> None:
    given = ("explain", images, "--endpoint", "kennel", "--clarify")
    shown = cloud.run(*given, "--dry-run").json
    (call,) = shown["requests"]
    assert call["operation"] == "CreateProcessingJob"
    request = call["request"]
    image = f"131013547314.dkr.ecr.{REGION}.amazonaws.com/sagemaker-clarify-processing:1.0"
    assert request["AppSpecification"]["ImageUri"] == image
    assert request["RoleArn"] == ROLE
    inputs = {entry["InputName"]: entry["S3Input"] for entry in request["ProcessingInputs"]}
    assert inputs["dataset"]["LocalPath"] == "/opt/ml/processing/input/data"
    assert inputs["analysis_config"]["LocalPath"] == "/opt/ml/processing/input/config"
    (paid,) = shown["paid_by_the_hour"]
    assert (paid["what"], paid["instances"]) == ("processing", 1)

    done = cloud.run(*given)
    assert done.code == 0, done.stderr
    (job,) = aws("sagemaker").list_processing_jobs()["ProcessingJobSummaries"]
    found = aws("sagemaker").describe_processing_job(ProcessingJobName=job["ProcessingJobName"])
    config = found["ProcessingInputs"][1]["S3Input"]["S3Uri"].removeprefix("s3://")
    bucket, _, key = config.partition("/")
    stored = aws("s3").get_object(Bucket=bucket, Key=f"{key}/{clarify.CONFIG_FILE}")
    assert json.loads(stored["Body"].read()) == clarify.analysis("kennel")
