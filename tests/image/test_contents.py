"""What lies in both images: a list of it, nothing writable, nothing secret, the same each time."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from docker_engine import container, docker
from kennel_image import REPOSITORY, build

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]

INSTALLED = """
from importlib.metadata import distributions
for each in distributions(path=["/opt/venv/lib/python3.11/site-packages"]):
    print(f"pkg:pypi/{each.name.lower().replace('_', '-')}@{each.version}")
"""
WRITABLE = (
    "find / -xdev ! -type l -perm -002 ! -perm -1000 2>/dev/null; find /opt ! -type l -perm /022"
)
SET_ID = "find / -xdev -type f -perm /6000"
HIDDEN = (
    "grep --recursive --files-with-matches --extended-regexp --binary-files=without-match "
    "'^-----BEGIN [A-Z ]*PRIVATE KEY-----$|^(aws_secret_access_key|_authToken|password) *=' "
    "/opt/program /opt/kennel /root /home /etc/pip.conf /etc/environment"
)
DEBIANS_OWN = {
    *("chage", "chfn", "chsh", "expiry", "gpasswd", "mount", "newgrp", "passwd", "su", "umount"),
    *("unix_chkpwd", "pam_extrausers_chkpwd"),
}
"""Programs that Debian and Ubuntu let anyone run as another user."""


@pytest.fixture(params=["image", "cpu_image"])
def either(request: pytest.FixtureRequest) -> str:
    """One image, then the other."""
    name: str = request.getfixturevalue(request.param)
    return name


def printed(image: str, *command: str) -> list[str]:
    with container(image, *command, options=("--network", "none")) as running:
        running.wait(seconds=300)
        return running.logs().splitlines()


def test_the_list_of_components_names_every_package_and_no_other(either: str) -> None:
    text = "\n".join(printed(either, "cat", "/opt/kennel/sbom.cdx.json"))
    listed: dict[str, Any] = json.loads(text)
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    urls = {component["purl"] for component in listed["components"]}
    python = {url for url in urls if url.startswith("pkg:pypi/")}
    assert python == set(printed(either, "python", "-c", INSTALLED))
    debian = {unquote(url.split("?")[0].rpartition("/")[2]) for url in urls - python}
    assert debian == set(printed(either, "dpkg-query", "-W", "-f", "${Package}@${Version}\\n"))
    assert all(component["licenses"] for component in listed["components"])


def test_nothing_can_be_written_by_whoever_is_not_root(either: str) -> None:
    assert printed(either, "sh", "-c", WRITABLE) == []


def test_only_debians_own_programs_change_who_runs_them(either: str) -> None:
    programs = {path.rpartition("/")[2] for path in printed(either, *SET_ID.split())}
    assert programs <= DEBIANS_OWN


def test_there_is_no_secret_in_it(either: str) -> None:
    assert printed(either, "sh", "-c", f"{HIDDEN} 2>/dev/null") == []
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", either)
    variables = docker("image", "inspect", "--format", "{{json .Config.Env}}", either)
    for word in ("password", "token", "secret"):
        assert word not in (history + variables).lower()


def test_the_same_inputs_make_the_same_layers(cpu_image: str) -> None:
    def layers(name: str) -> list[str]:
        found: list[str] = json.loads(
            docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", name)
        )
        return found

    again = build(REPOSITORY, "--target", "cpu", "--no-cache")
    try:
        assert layers(again) == layers(cpu_image)
    finally:
        docker("image", "rm", again)
