"""Fixtures that many tests use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import docker, require_engine
from kennel_image import REPOSITORY, build
from opt_ml import OptMl


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make fuzz` sends more requests than `make test` has time for."""
    parser.addoption(
        "--fuzz-requests", default="3000", help="how many mutated requests a server is sent"
    )


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """The image, built once for all tests that run it, or the one that KENNEL_TEST_IMAGE names."""
    require_engine()
    if given := os.environ.get("KENNEL_TEST_IMAGE"):
        yield given
        return
    name = build(REPOSITORY)
    yield name
    docker("image", "rm", name)


@pytest.fixture(scope="session")
def cpu_image() -> Iterator[str]:
    """The image that serves on a CPU alone."""
    require_engine()
    name = build(REPOSITORY, "--target", "cpu")
    yield name
    docker("image", "rm", name)


@pytest.fixture
def opt_ml(tmp_path: Path) -> OptMl:
    base = tmp_path / "opt/ml"
    base.mkdir(parents=True)
    return OptMl(base)
