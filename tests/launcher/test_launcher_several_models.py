"""Several models behind one endpoint: multi-model endpoints and inference components."""

import contextlib
import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import serving_artifacts
from botocore.exceptions import ClientError
from launcher_workspace import Workspace, aws
from PIL import Image

from launcher import api, components, inventory
from launcher.api import Call
from launcher.local import layout
from launcher.local.jobs import ENDPOINT
from launcher.session import Session as RealSession

pytest_plugins = ("launcher_fixtures", "launcher_moto")


@pytest.fixture
def archives(tmp_path: Path) -> list[Path]:
    """Two models that were made without training."""
    serving_artifacts.write(tmp_path / "made")
    found = [tmp_path / "archives" / f"{name}.tar.gz" for name in ("dogs", "cats")]
    for archive in found:
        layout.pack(tmp_path / "made", archive)
    shutil.rmtree(tmp_path / "made")
    return found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.new("RGB", (40, 40), "brown").save(path)
    return path


def test_models_of_one_endpoint_are_loaded_when_they_are_asked_for(
    workspace: Workspace, archives: list[Path], image: Path
) -> None:
    deployed = workspace.run("deploy", "--multi-model", *archives, "--json")
    assert deployed.code == 0, deployed.stderr
    assert deployed.json["targets"] == ["dogs", "cats"]
    for target in ("dogs", "cats", "dogs"):
        answer = workspace.run("predict", "--target", target, image, "--json")
        assert answer.code == 0, answer.stderr
        assert answer.json["predictions"][str(image)]
    explained = workspace.run("explain", "--target", "cats", image, "--json")
    assert explained.code == 0, explained.stderr
    assert explained.json["images"] == 1
    log = workspace.client.folder.directory(ENDPOINT, "kennel") / "log.txt"
    assert log.is_file()
    assert "TargetModel is needed" in workspace.run("predict", image).stderr
    unknown = workspace.run("predict", "--target", "birds", image).stderr
    assert "There is no model 'birds.tar.gz' here; there are cats.tar.gz, dogs.tar.gz." in unknown
    outside = workspace.run("predict", "--target", "../../x", image).stderr
    assert "There is no model" in outside
    assert workspace.run("delete", "--yes").code == 0
    assert all(archive.is_file() for archive in archives)


def test_a_server_is_given_the_variables_that_it_is_deployed_with(
    workspace: Workspace, archives: list[Path]
) -> None:
    for page, found in (("1", True), ("0", False)):
        given = ("--env", "KENNEL_PRECISION=float32", f"KENNEL_PAGE={page}")
        answer = workspace.run("deploy", "--model", archives[0], *given)
        assert answer.code == 0, answer.stderr
        url = workspace.client.server_url("kennel")
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url) as shown:
            assert b"<title>" in shown.read()
            assert found
            continue
        assert not found
    refused = workspace.run("deploy", "--model", archives[0], "--env", "KENNEL_PRECISION")
    assert "--env takes NAME=VALUE, such as KENNEL_PRECISION=int8" in refused.stderr
    given = ("--env", "KENNEL_SCRIPT=true", "--dry-run")
    shown = workspace.run("deploy", "--multi-model", *archives, *given)
    container = requests(shown)["CreateModel"]["PrimaryContainer"]
    assert container["Environment"] == {"KENNEL_SCRIPT": "true"}


def test_a_model_that_several_requests_want_at_once_is_loaded_by_one_of_them(
    workspace: Workspace, archives: list[Path], image: Path, tmp_path: Path
) -> None:
    assert workspace.run("deploy", "--multi-model", *archives).code == 0
    (tmp_path / "images").mkdir()
    for number in range(8):
        shutil.copy(image, tmp_path / f"images/{number}.png")
    explained = workspace.run("explain", "--target", "cats", tmp_path / "images", "--json")
    assert explained.code == 0, explained.stderr
    assert explained.json["images"] == 8
    assert explained.json["refused"] == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--multi-model", "job-that-is-not"], "Could not find training-job"),
        (["--multi-model", "a/x.tar.gz"], "a/x.tar.gz is no file"),
        (["--components"], "on this machine take --multi-model"),
        (["--components", "--async"], "not allowed with argument"),
    ],
)
def test_refusals_on_this_machine(
    workspace: Workspace, arguments: list[str], sentence: str
) -> None:
    answer = workspace.run("deploy", *arguments)
    assert answer.code == 1
    assert sentence in answer.stderr


def requests(answer: Any) -> dict[str, Any]:
    assert answer.code == 0, answer.stderr
    found = json.loads(answer.stdout[answer.stdout.index("{") :])["requests"]
    return {entry["operation"]: entry["request"] for entry in found}


def test_many_models_are_one_folder_of_archives_in_s3(
    cloud: Workspace, archives: list[Path]
) -> None:
    model = ("--image", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel:latest")
    given = requests(cloud.run("deploy", "--multi-model", *archives, *model, "--dry-run"))
    assert aws("s3").list_buckets()["Buckets"] == [], "a dry run sends nothing"
    container = given["CreateModel"]["PrimaryContainer"]
    assert container["Mode"] == "MultiModel"
    assert container["MultiModelConfig"] == {"ModelCacheSetting": "Enabled"}
    assert container["ModelDataUrl"].endswith(f"/models/{given['CreateModel']['ModelName']}/")
    twice = cloud.run("deploy", "--multi-model", archives[0], archives[0], *model, "--dry-run")
    assert "names a model twice: dogs, dogs" in twice.stderr
    gpu = ("--endpoint-instance-type", "ml.g4dn.xlarge")
    refused = cloud.run("deploy", "--multi-model", *archives, *gpu, *model)
    assert "--multi-model serves on processors only" in refused.stderr

    answer = cloud.run("deploy", "--multi-model", *archives, *model)
    assert answer.code == 0, answer.stderr
    stored = aws("s3").list_objects_v2(Bucket="sagemaker-eu-west-1-123456789012")["Contents"]
    kept = {entry["Key"].rpartition("/")[2] for entry in stored if "/models/" in entry["Key"]}
    assert kept == {"dogs.tar.gz", "cats.tar.gz"}


def test_a_component_is_a_model_and_its_part_of_the_machines(
    cloud: Workspace, archives: list[Path]
) -> None:
    model = ("--image", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel:latest")
    gpu = ("--endpoint-instance-type", "ml.g5.xlarge")
    given = requests(
        cloud.run("deploy", "--model", archives[0], "--components", "2", *gpu, *model, "--dry-run")
    )
    (variant,) = given["CreateEndpointConfig"]["ProductionVariants"]
    assert "ModelName" not in variant
    assert given["CreateEndpointConfig"]["ExecutionRoleArn"]
    component = given["CreateInferenceComponent"]
    assert component["RuntimeConfig"] == {"CopyCount": 2}
    assert component["Specification"]["ModelName"] == given["CreateModel"]["ModelName"]
    assert component["Specification"]["ComputeResourceRequirements"] == {
        "NumberOfCpuCoresRequired": 1.0,
        "MinMemoryRequiredInMb": 2048,
        "NumberOfAcceleratorDevicesRequired": 1.0,
    }
    asked = requests(
        cloud.run("predict", "--endpoint", "x", "--component", "c", cloud.data, "--dry-run")
    )
    assert asked["InvokeEndpoint"]["InferenceComponentName"] == "c"
    refused = cloud.run("deploy", "--model", archives[0], "--components", "0", *model)
    assert "--components takes how many copies to run" in refused.stderr


@pytest.mark.parametrize(
    ("machine", "accelerators"), [("ml.m5.large", None), ("ml.g4dn.xlarge", 1.0)]
)
def test_a_further_component_asks_for_what_the_endpoint_s_machines_have(
    cloud: Workspace,
    archives: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    accelerators: float | None,
) -> None:
    model = ("--image", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel:latest")
    assert cloud.run("deploy", "--model", archives[0], *model).code == 0
    # moto knows no configuration without a model.
    variant = {"VariantName": "AllTraffic", "InstanceType": machine}
    config = {"ProductionVariants": [variant]}
    monkeypatch.setattr(components, "configuration", lambda session, found: config)
    given = ("deploy", "--model", archives[0], "--components", *model, "--dry-run")
    further = requests(cloud.run(*given))
    assert "CreateEndpoint" not in further
    needs = further["CreateInferenceComponent"]["Specification"]["ComputeResourceRequirements"]
    assert needs.get("NumberOfAcceleratorDevicesRequired") == accelerators
    client = aws("sagemaker")
    arn = client.describe_endpoint(EndpointName="kennel")["EndpointArn"]
    client.delete_tags(ResourceArn=arn, TagKeys=["kennel:made-by"])
    assert "was not made for this project" in cloud.run(*given).stderr


class Components:
    """The answers that moto does not have; every request is checked by botocore's models."""

    def __init__(self) -> None:
        self.names = ["kennel-model-1"]
        self.deleted: list[str] = []

    def _checked(self, operation: str, request: dict[str, Any]) -> None:
        api.check(Call("sagemaker", operation, request))

    def describe_endpoint_config(self, **request: Any) -> dict[str, Any]:
        self._checked("DescribeEndpointConfig", request)
        return {"ProductionVariants": [{"VariantName": "AllTraffic"}]}

    def list_inference_components(self, **request: Any) -> dict[str, Any]:
        self._checked("ListInferenceComponents", request)
        return {
            "InferenceComponents": [
                {
                    "InferenceComponentName": name,
                    "InferenceComponentArn": f"arn:{name}",
                    "InferenceComponentStatus": "InService",
                    "CreationTime": None,
                }
                for name in self.names
            ]
        }

    def delete_inference_component(self, **request: Any) -> None:
        self._checked("DeleteInferenceComponent", request)
        self.names.remove(request["InferenceComponentName"])
        self.deleted.append(request["InferenceComponentName"])

    def describe_inference_component(self, **request: Any) -> dict[str, Any]:
        self._checked("DescribeInferenceComponent", request)
        name = request["InferenceComponentName"]
        if name not in self.names:
            error = {"Code": "ValidationException", "Message": f"Could not find {name}"}
            raise ClientError({"Error": error}, "DescribeInferenceComponent")
        return {"InferenceComponentStatus": "InService"}

    def list_endpoints(self, **_: Any) -> dict[str, Any]:
        return {"Endpoints": [{"EndpointName": "kennel"}]}

    def describe_endpoint(self, **_: Any) -> dict[str, Any]:
        return {"EndpointConfigName": "kennel-model-1"}

    def list_tags(self, **_: Any) -> dict[str, Any]:
        return {
            "Tags": [
                {"Key": "kennel:made-by", "Value": "kennel"},
                {"Key": "kennel:project", "Value": "kennel"},
            ]
        }


class Patient:
    def until(self, seconds: float, what: str) -> Any:
        assert seconds
        assert what
        return range(3)


def test_components_are_found_awaited_and_removed_before_their_endpoint() -> None:
    client = Components()

    class Session:
        sagemaker = client
        owns = RealSession.owns

        class settings:  # noqa: N801 - stands for an attribute
            project = "kennel"

        class backend:  # noqa: N801
            patience = Patient()

    session: Any = Session()
    order = [kind.title for kind in inventory.KINDS]
    assert order.index("component") < order.index("endpoint")
    (entry,) = inventory.find(session, (inventory.COMPONENT,))
    components.wait(session, entry.name)
    entry.end(client)
    components.wait_until_gone(session, entry.name)
    assert client.deleted == ["kennel-model-1"]
