"""Fixtures that many tests use."""

from pathlib import Path

import pytest
from opt_ml import OptMl


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make fuzz` sends more requests than `make test` has time for."""
    parser.addoption(
        "--fuzz-requests", default="3000", help="how many mutated requests a server is sent"
    )


@pytest.fixture
def opt_ml(tmp_path: Path) -> OptMl:
    base = tmp_path / "opt/ml"
    base.mkdir(parents=True)
    return OptMl(base)
