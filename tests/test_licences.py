"""Licences of what the images hold: each is known, and each lets Kennel be passed on."""

import re
import sys

import pytest

from docs import licences

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the packages of the image's Python are not here"
)

PERMISSIVE = {
    *("Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Apache Software License", "Apache 2.0"),
    *("BSD", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "BSL-1.0", "Zlib"),
    *("ISC", "MIT", "MIT License", "MIT-0", "MIT-CMU", "CC0-1.0", "ZPL-2.1"),
    *("PSF-2.0", "Python Software Foundation License", "HPND", "The Unlicense (Unlicense)"),
}
WEAK_COPYLEFT = {"certifi", "paramiko", "tqdm"}
"""Packages that may be passed on unchanged, as they are here."""
NVIDIA = {"LicenseRef-NVIDIA-Proprietary", "NVIDIA Proprietary Software"}


def refused() -> dict[str, set[str]]:
    """Packages by the licence that nobody has said yes to."""
    problems = {}
    for licence, names in licences.licences().items():
        parts = {part.strip(" ()") for part in re.split(r" (?:AND|OR|or) ", licence)}
        unknown = parts if licence not in PERMISSIVE | NVIDIA and parts - PERMISSIVE else set()
        left = {name for name in names if name.split()[0] not in WEAK_COPYLEFT}
        if unknown and left:
            problems[licence] = left
    return problems


def test_every_package_in_the_images_has_a_licence_that_is_known_and_fits() -> None:
    assert refused() == {}


def test_nvidias_licence_is_nvidias_alone() -> None:
    for licence in NVIDIA:
        for name in licences.licences().get(licence, ()):
            assert name.startswith(("nvidia-", "cuda-", "nccl")), name


def test_the_page_is_up_to_date() -> None:
    assert licences.table() in licences.PAGE.read_text()
