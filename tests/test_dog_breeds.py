"""The walk-through's commands run as they stand, but on fewer drawings and for fewer epochs."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from opt_ml import ROOT
from PIL import Image

from examples import breeds
from examples.animals import Animal

PAGE = ROOT / "docs/dog-breeds.md"
QUICKER = {
    "examples.breeds dogImages": "examples.breeds --share 0.1 dogImages",
    "examples.breeds --wild": "examples.breeds --share 0.1 --wild",
    "--epochs 8": "--epochs 1",
    "epochs=20": "epochs=1",
    "--image-size 64": "--image-size 32",
    "image-size = 64": "image-size = 32",
    "--jobs 8": "--jobs 1 --parallel 1",
    "explain dogImages/test": "explain dogImages/test/057.Dalmatian",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a person has after cloning, with the environment that `make venv` made."""
    for name in ("container", "examples", "launcher"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train", "serve", "launch.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def commands() -> str:
    text = PAGE.read_text(encoding="utf-8")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    for shown, quicker in QUICKER.items():
        assert shown in script
        script = script.replace(shown, quicker)
    return script


@pytest.mark.timeout(600)  # two dozen processes, one after the other
def test_every_step_of_the_walk_through_works(checkout: Path) -> None:
    script = "set -euo pipefail\ntrap './launch.py delete --yes' EXIT\n" + commands()
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=checkout,
        env=os.environ | {"OMP_NUM_THREADS": "1", "KENNEL_CACHE_DIR": str(checkout / "cache")},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert (checkout / "tuning.html").is_file()
    for page in ("report.html", "explain.html"):
        assert "Dalmatian" in (checkout / page).read_text(encoding="utf-8")
    scores = json.loads((checkout / "scores.json").read_text())
    assert len(json.dumps(scores).split("label")) > len(breeds.BREEDS)
    assert len((checkout / "transform.csv").read_text().splitlines()) == len(breeds.BREEDS) + 1
    the_folders_are_the_photographs(checkout / "dogImages")
    rules_look_again(checkout)


def rules_look_again(checkout: Path) -> None:
    """What docs/debugging.md says to do with the tensors of a training."""
    text = (ROOT / "docs/debugging.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```sh check\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tensors,) = checkout.glob(".kennel/jobs/training-jobs/*/opt-ml/output/tensors")
    for command in commands.replace("job/output/tensors", str(tensors)).splitlines():
        result = subprocess.run(
            ["bash", "-c", f'PATH="$PWD/.venv/bin:$PATH" {command}'],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode in (0, 1), result.stderr
        assert all("rule" in json.loads(line) for line in result.stdout.splitlines())
        assert result.stdout


def the_folders_are_the_photographs(directory: Path) -> None:
    for split in ("train", "valid", "test"):
        names = sorted(path.name for path in (directory / split).iterdir())
        assert len(names) == 133
        assert (names[0], names[56]) == ("001.Affenpinscher", "057.Dalmatian")
    drawn = list((directory / "train").rglob("*.jpg"))
    sizes = set()
    for path in drawn:
        with Image.open(path) as image:
            sizes.add(image.size)
    assert len(sizes) > len(drawn) / 2
    assert all(390 <= width <= 630 for width, _ in sizes)


def test_a_drawing_is_the_same_every_time_and_no_two_are_alike() -> None:
    animal = Animal.of_kind(57)
    first, again, another = (animal.draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != another.tobytes()
