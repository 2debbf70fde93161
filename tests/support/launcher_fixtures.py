"""Fixtures of the launcher's tests, made once for all of them: `pytest_plugins` names this file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher_workspace import TINY, Workspace, no_account

from examples.digits import write_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred real scans, as folders of images."""
    directory = tmp_path_factory.mktemp("digits") / "digits"
    write_digits(directory, limit=100)
    return directory


@pytest.fixture
def workspace(tmp_path: Path, digits: Path) -> Iterator[Workspace]:
    """An empty working directory."""
    with no_account():
        place = Workspace(tmp_path, digits)
        yield place
        place.clean()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Iterator[Workspace]:
    """A working directory whose last job has trained a model."""
    place = Workspace(tmp_path_factory.mktemp("trained"), digits)
    with no_account():
        answer = place.run("train", "--data", digits, "--set", *TINY)
    assert answer.code == 0, answer.stderr
    yield place
    with no_account():
        place.clean()
