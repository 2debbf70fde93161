"""AWS's own images for jobs, which lie in another account in every region."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from container.errors import UserError

TABLES = "core/image_uri_config"


def table(name: str, wanted_by: str) -> dict[str, Any]:
    """What SageMaker's SDK knows about one kind of image. Raises UserError where it is missing."""
    package = importlib.util.find_spec("sagemaker")
    folders = (package and package.submodule_search_locations) or ()
    places = [Path(folder, TABLES, f"{name}.json") for folder in folders]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"{wanted_by} needs SageMaker's SDK: pip install sagemaker-core.")
    content: dict[str, Any] = json.loads(found.read_text())
    return content


def address(account: str, region: str, image: str) -> str:
    """The image's address in ECR."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{account}.dkr.ecr.{region}.{domain}/{image}"
