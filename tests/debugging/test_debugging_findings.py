"""The findings of the projects before Kennel, each out of a real training in their situation."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opt_ml import ROOT, OptMl
from PIL import Image

from container.debugging.profiler.profile import read
from container.debugging.results import read_results

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


def write_noise(folder: Path, count: int, seed: int) -> None:
    """Images that tell nothing of their class: they can only be learned by heart."""
    generator = np.random.default_rng(seed)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> OptMl:
    """Twenty images, no augmentation, sixteen epochs."""
    opt_ml = OptMl(tmp_path_factory.mktemp("noise"))
    write_noise(opt_ml.channel("train"), 10, 0)
    write_noise(opt_ml.channel("validation"), 20, 1)
    options = {
        "epochs": "16",
        "batch-size": "4",
        "crop-scale": "1",
        "flip": "false",
        "test-split": "0",
        "debug": "standard",
        "profile-steps": "20-22",
    }
    done = opt_ml.train(options)
    assert done.returncode == 0, done.stderr
    return opt_ml


def test_cross_entropy_loss_for_training_and_validation(noise: OptMl) -> None:
    from smdebug.pytorch import modes
    from smdebug.trials import create_trial

    loss = create_trial(str(noise.base / "output/tensors")).tensor("CrossEntropyLoss_output_0")
    assert loss.steps(mode=modes.TRAIN) == list(range(0, 80, 10))
    assert loss.steps(mode=modes.EVAL)[:16] == list(range(16))
    assert loss.value(70, mode=modes.TRAIN) < loss.value(0, mode=modes.TRAIN)
    assert "CrossEntropyLoss step by step" in (noise.base / "output/data/report.html").read_text()


def test_overfitting(noise: OptMl) -> None:
    results = {each.rule: each for each in read_results(noise.base / "output/data/rules.jsonl")}
    assert results["Overfit"].fired
    page = (noise.base / "output/data/report.html").read_text()
    assert "knows its training images better than new ones" in page


def test_without_a_test_the_answers_are_those_of_the_best_epoch(noise: OptMl) -> None:
    best = noise.metrics()[-1]
    assert best["best_epoch"] < 16
    answers = json.loads((noise.base / "output/data/report.json").read_text())["answers"]
    assert answers["split"] == "validation"
    assert answers["accuracy"] == pytest.approx(best["validation:accuracy"])


def test_the_most_expensive_operators_are_the_convolutions(noise: OptMl) -> None:
    operators = json.loads((noise.base / "output/data/report.json").read_text())["operators"]
    first = [row["operator"] for row in operators[:8]]
    assert "aten::conv2d" in first
    # Where all layers learn, the way back costs more than the way there.
    assert "aten::convolution_backward" in first


def test_rules_on_tensors_and_on_the_profile_have_a_line_each(noise: OptMl) -> None:
    names = [each.rule for each in read_results(noise.base / "output/data/rules.jsonl")]
    assert {"Overfit", "VanishingGradient", "LowGPUUtilization", "OverallSystemUsage"} <= set(names)
    assert len(names) == len(set(names))


def children(pid: int) -> dict[str, int]:
    """What a training has started beside itself."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = (path / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid and b"container.debugging.profiler.sampler" in words:
            found["sampler"] = int(path.name)
        if parent == pid and b"watch" in words:
            found["watch"] = int(path.name)
    return found


def test_training_does_without_processes_that_are_killed(opt_ml: OptMl) -> None:
    write_noise(opt_ml.channel("train"), 20, 0)
    flags = ["--weights=none", "--trainable=all", "--image-size=32", "--epochs=4"]
    process = opt_ml.start(*flags, "--batch-size=4", "--debug=losses")
    assert process.stdout
    next(line for line in process.stdout if "smdebug saves" in line)
    deadline = time.monotonic() + 30
    beside: dict[str, int] = {}
    while len(beside) < 2 and time.monotonic() < deadline:
        beside = children(process.pid)
        time.sleep(0.05)
    for pid in beside.values():
        os.kill(pid, signal.SIGKILL)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert set(beside) == {"watch", "sampler"}
    assert said.count("failed, with exit code -9") == 2
    assert (opt_ml.base / "output/data/report.html").exists()
    assert opt_ml.facts()["metrics"]


def test_the_report_of_a_resumed_training_covers_both_parts(opt_ml: OptMl) -> None:
    from smdebug.pytorch import modes
    from smdebug.trials import create_trial

    write_noise(opt_ml.channel("train"), 30, 0)
    flags = ["--weights=none", "--trainable=all", "--image-size=32", "--epochs=4"]
    flags += ["--batch-size=4", "--debug=losses", "--crop-scale=1"]
    process = opt_ml.start(*flags)
    assert process.stdout
    next(line for line in process.stdout if line.startswith("epoch 2/"))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    part = read(opt_ml.base / "output/profiler")
    resumed = opt_ml.start(*flags)
    said, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, errors
    assert "Resumed from" in said
    whole = read(opt_ml.base / "output/profiler")
    steps = 4 * -(-opt_ml.facts()["data"]["images"]["train"] // 4)
    assert len(part.numbers) < steps
    assert list(whole.numbers) == list(range(steps))
    assert list(whole.step_seconds[: len(part.numbers)]) == list(part.step_seconds)
    assert whole.totals["forward"] > part.totals["forward"]
    loss = create_trial(str(opt_ml.base / "output/tensors")).tensor("CrossEntropyLoss_output_0")
    assert loss.steps(mode=modes.TRAIN) == list(range(0, steps, 10))
    # The test's is one further on: by that it is told from the validation just before.
    assert loss.steps(mode=modes.EVAL) == [0, 1, 2, 3, 5]
    content = json.loads((opt_ml.base / "output/data/report.json").read_text())
    assert [entry["epoch"] for entry in content["metrics"] if "epoch" in entry] == [1, 2, 3, 4]


def test_a_disk_that_is_full_ends_the_saving_and_not_the_training(tmp_path: Path) -> None:
    # "OSError: [Errno 28] in the thread, then no return until killed"
    small = tmp_path / "output"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a small file system")
    program = (
        "import container.debugging.forgiving_hook as forgiving; forgiving.RESERVED_BYTES = 0; "
        "from debugging_nets import *; "
        f"hook = create_hook(job_at({str(tmp_path)!r}), 'full'); "
        "train(hook, 60); print('trained', hook.failure)"
    )
    environment: dict[str, Any] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tests/support", ROOT))),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment,
        )
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained smdebug failed and has switched itself off") == 1
    assert "No space left on device" in done.stdout
