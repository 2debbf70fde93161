"""The README's commands run as they stand, and its generated parts are up to date."""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from opt_ml import ROOT

from container.debugging.profiler.rules import PROFILE_RULES
from container.debugging.rules import RULES
from docs import benchmarks, readme, settings
from docs.sections import fill

TEXT = readme.PAGE.read_text()


def blocks(kind: str) -> list[str]:
    """The README's fenced code blocks of one kind, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a person has after cloning, with the environment that `make venv` made."""
    for name in ("container", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train", "serve"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


@pytest.mark.parametrize(
    "module", [readme, settings, benchmarks], ids=lambda module: module.__name__
)
def test_generated_parts_are_up_to_date(module: ModuleType) -> None:
    text = module.PAGE.read_text(encoding="utf-8")
    assert fill(text, module.SECTIONS) == text, "run make docs"


def test_there_are_as_many_rules_as_it_says() -> None:
    assert f"{len(RULES) + len(PROFILE_RULES)} rules" in TEXT


def test_the_first_two_commands_are_what_ci_runs() -> None:
    script = (ROOT / ".ci/run").read_text()
    commands = blocks("sh")[0].split("\n")[:-1]
    assert commands == ["make demo", "make test"]
    for command in commands:
        assert re.search(rf"^{command}$", script, re.MULTILINE)


def test_training_serving_and_asking_without_docker(checkout: Path) -> None:
    port = free_port()
    commands = "".join(blocks("sh")[1:]).replace("localhost:8080", f"127.0.0.1:{port}")
    assert commands.count("curl ") == 5
    script = "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n"
    # Each answer on a line of its own.
    script += 'curl() { command curl --silent --show-error --fail "$@"; echo; }\n' + commands
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=checkout,
        env=os.environ | {"SAGEMAKER_BIND_TO_PORT": str(port), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    output = result.stdout
    plain, verbose, top = [json.loads(line) for line in output.splitlines() if line[:1] == "["]
    assert len(plain) == len(verbose) == 10
    assert sum(plain) == pytest.approx(1, abs=1e-3)
    assert [entry["label"] for entry in verbose[:3]] == [entry["label"] for entry in top]
    assert verbose[0]["probability"] == pytest.approx(max(plain), abs=1e-5)
    assert len(output.strip().splitlines()[-1].split(",")) == 10


def test_every_link_to_a_file_holds() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_every_make_target_is_explained() -> None:
    output = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "check", "image", "test-image", "clean"):
        assert re.search(rf"^{target} +\w", output, re.MULTILINE)


def test_the_whole_journey_is_one_command(checkout: Path) -> None:
    shutil.copytree(ROOT / "launcher", checkout / "launcher")
    shutil.copy(ROOT / "launch.py", checkout / "launch.py")
    (script,) = blocks("sh journey")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (accuracy,) = re.findall(r"^Accuracy ([\d.]+)% on 270 images", done.stdout, re.MULTILINE)
    assert float(accuracy) > 50
    assert (checkout / "explain.html").is_file()
    assert "Deleted" in done.stdout
