"""No rule fires on healthy trainings of a real ResNet-18 on real scans of digits.

Two seeds in every run; KENNEL_HEALTHY_SEEDS=20 tries as many.
"""

import os
from pathlib import Path

import pytest
from opt_ml import OptMl

from container.debugging.results import read_results
from container.debugging.rules import RULES
from examples.digits import write_digits

SEEDS = range(int(os.environ.get("KENNEL_HEALTHY_SEEDS", "2")))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scans, written once."""
    directory = tmp_path_factory.mktemp("digits")
    write_digits(directory)
    return directory


@pytest.mark.parametrize("seed", SEEDS)
def test_no_rule_fires_on_a_healthy_resnet(opt_ml: OptMl, digits: Path, seed: int) -> None:
    for split in ("train", "validation", "test"):
        channel = opt_ml.base / "input/data" / split
        channel.parent.mkdir(parents=True, exist_ok=True)
        channel.symlink_to(digits / split)
    options = {"debug": "full", "epochs": "3", "batch-size": "32", "flip": "false"}
    done = opt_ml.train({**options, "seed": str(seed), "profile": "false"})
    assert done.returncode == 0, done.stderr
    found = read_results(opt_ml.base / "output/data/rules.jsonl")
    looked = [each for each in found if each.rule in {kind.__name__ for kind in RULES}]
    assert len(looked) == sum(kind.by_default for kind in RULES)
    assert not [each for each in looked if each.status != "NoIssuesFound"]
    assert opt_ml.metrics()[-1]["test:accuracy"] > 0.9
