"""Fixtures that many tests use."""

from pathlib import Path

import pytest
from opt_ml import OptMl


@pytest.fixture
def opt_ml(tmp_path: Path) -> OptMl:
    base = tmp_path / "opt/ml"
    base.mkdir(parents=True)
    return OptMl(base)
