"""Write what an image holds as CycloneDX JSON: `sbom.py SITE_PACKAGES ROOT FILE`.

ROOT is the root of the image's base. The same packages make the same bytes: the date is
SOURCE_DATE_EPOCH and the serial number comes from the content.
"""

import os
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

LONGEST_NAME = 100
"""Characters of a licence's name; some packages give its whole text instead."""


def main(packages: Path, root: Path, file: Path) -> None:
    """Write every Python and Debian package with its version, licence and package URL."""
    bom = Bom(components=[*python_packages(packages), *debian_packages(root)])
    image = Component(type=ComponentType.CONTAINER, name="kennel", bom_ref="kennel")
    bom.metadata.component = image
    bom.register_dependency(image, bom.components)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    bom.metadata.timestamp = datetime.fromtimestamp(seconds, timezone.utc)
    names = "\n".join(str(component.purl) for component in bom.components)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, names)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n", encoding="utf-8")


def python_packages(packages: Path) -> Iterator[Component]:
    """What is installed, by its own metadata."""
    for distribution in distributions(path=[str(packages)]):
        name, version = distribution.name, distribution.version
        url = PackageURL("pypi", None, name.lower().replace("_", "-"), version)
        licence = LicenseFactory().make_from_string(licence_of(distribution))
        yield Component(name=name, version=version, purl=url, bom_ref=str(url), licenses=[licence])


def licence_of(distribution: Distribution) -> str:
    """A package's licence in its own words: an SPDX expression, a classifier or a name."""
    metadata = distribution.metadata
    expression = _first(distribution, "License-Expression")
    classified = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License :: OSI Approved :: ")
    ]
    name = _first(distribution, "License").strip()
    short = name if len(name) <= LONGEST_NAME and "\n" not in name else ""
    return expression or " or ".join(classified) or short or "not declared"


def _first(distribution: Distribution, field: str) -> str:
    return str((distribution.metadata.get_all(field) or [""])[0])


def debian_packages(root: Path) -> Iterator[Component]:
    """What dpkg knows to be installed, with the distribution that it came from."""
    release = dict(
        line.split("=", 1)
        for line in (root / "etc/os-release").read_text(encoding="utf-8").splitlines()
        if "=" in line
    )
    distribution = release["ID"].strip('"')
    status = (root / "var/lib/dpkg/status").read_text(encoding="utf-8")
    for entry in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if _is_field(line))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version = fields["Package"], fields["Version"]
        url = PackageURL("deb", distribution, name, version, {"arch": fields["Architecture"]})
        documents = f"/usr/share/doc/{name}/copyright"
        licence = DisjunctiveLicense(name=f"see {documents}")
        yield Component(name=name, version=version, purl=url, bom_ref=str(url), licenses=[licence])


def _is_field(line: str) -> bool:
    return ": " in line and not line.startswith(" ")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
