"""The stand-in for boto3's SageMaker client."""

from typing import Any

from launcher.local.endpoint import Endpoints
from launcher.local.jobs import RESOURCES, JobsFolder
from launcher.local.transform import TransformJobs
from launcher.local.tuning import TuningJobs


class LocalSageMaker(TuningJobs, TransformJobs, Endpoints):
    """The SageMaker client's methods, on this machine."""

    def __init__(self, folder: JobsFolder, engine_name: str) -> None:
        self.folder = folder
        self.engine_name = engine_name

    def list_tags(self, **request: Any) -> dict[str, Any]:
        """The tags that something was made with."""
        kind, _, name = request["ResourceArn"].rpartition(":")[2].partition("/")
        resource = next(resource for resource in RESOURCES if resource.kind == kind)
        record = self.folder.find(resource, name, "ListTags")
        return {"Tags": record["request"].get("Tags", [])}
