"""System metrics that smdebug's own readers open, timed steps, and the rules on both."""

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opt_ml import ROOT, OptMl, write_images

from container.debugging.clock import EVERY_ON_GPU, Clock
from container.debugging.profiler.operators import OperatorProfiler, parse_steps
from container.debugging.profiler.profile import Profile, read, write_steps
from container.debugging.profiler.rules import PROFILE_RULES, look
from container.debugging.profiler.utilisation import OverallSystemUsage
from container.debugging.report.resources import advice
from container.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of this machine."""
    directory = tmp_path_factory.mktemp("profiler")
    process = subprocess.Popen(
        [sys.executable, "-m", "container.debugging.profiler.sampler", str(directory), "algo-2"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        samples = read(directory).samples("MemoryUsedPercent") or read(directory).samples("memory")
        if samples and len(samples["MemoryUsedPercent"]) >= 5:
            break
        time.sleep(0.3)
    assert process.stdin
    process.stdin.close()
    assert process.wait(20) == 0
    return directory


def test_samples_are_in_the_platforms_format(sampled: Path) -> None:
    paths = list(sampled.glob("system/incremental/*/*.json"))
    assert paths
    assert all(path.name.endswith(".algo-2.json") for path in paths)
    entries = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    assert {frozenset(entry) for entry in entries} == {
        frozenset(("Type", "Name", "Dimension", "Value", "NodeId", "Timestamp"))
    }
    kinds = {(entry["Type"], entry["Dimension"]) for entry in entries}
    assert ("cpu", "CPUUtilization") in kinds
    assert ("cpu", "I/OWaitPercentage") in kinds
    assert ("memory", "") in kinds
    stamps = sorted({entry["Timestamp"] for entry in entries})
    assert np.median(np.diff(stamps)) == pytest.approx(0.5, abs=0.3)


def test_smdebugs_own_reader_opens_them(sampled: Path) -> None:
    from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader

    reader = LocalSystemMetricsReader(str(sampled))
    reader.refresh_event_file_list()
    events = reader.get_events(0, time.time() + 60, unit=_seconds())
    written = sum(len(p.read_text().splitlines()) for p in sampled.glob("system/**/*.json"))
    assert len(events) == written


def _seconds() -> Any:
    from smdebug.profiler.utils import TimeUnits

    return TimeUnits.SECONDS


def test_they_are_read_back_for_the_report(sampled: Path) -> None:
    summary = OverallSystemUsage().summary(read(sampled))
    assert 0 <= summary["CPUUtilization"]["p50"] <= 100
    assert 0 < summary["memory"]["max"] <= 100


def test_the_clock_tells_phases_apart() -> None:
    hook = 0.0
    clock = Clock(hook_seconds=lambda: hook)
    clock.begin()
    time.sleep(0.03)
    clock.mark("data_wait")
    time.sleep(0.05)
    hook = 0.02
    clock.mark("forward")
    clock.end_step()
    time.sleep(0.02)
    clock.mark("evaluation")
    totals = clock.totals()
    assert totals["data_wait"] == pytest.approx(0.03, abs=0.02)
    assert totals["forward"] == pytest.approx(0.03, abs=0.02)
    assert totals["hook"] == pytest.approx(0.02)
    assert totals["evaluation"] == pytest.approx(0.02, abs=0.015)
    assert clock.count == len(clock.starts) == 1


def test_a_gpu_is_waited_for_in_few_steps() -> None:
    waits: list[int] = []
    clock = Clock(wait=lambda: waits.append(clock.count))
    clock.begin()
    for _ in range(3 * EVERY_ON_GPU):
        clock.mark("forward")
        clock.end_step()
    assert set(waits) == {0, EVERY_ON_GPU, 2 * EVERY_ON_GPU, 3 * EVERY_ON_GPU}
    assert len(clock.starts) == 3
    assert clock.count == 3 * EVERY_ON_GPU


def test_operators_of_the_chosen_steps_are_timed(tmp_path: Path) -> None:
    profiler = OperatorProfiler((1, 2), tmp_path)
    convolution, images = torch.nn.Conv2d(3, 64, 7), torch.randn(8, 3, 32, 32)
    for step in range(4):
        profiler.before_step(step)
        convolution(images)
    profiler.close()
    profile = read(tmp_path)
    # The finding of an earlier project: "most expensive operator aten::conv2d".
    assert profile.operators[0]["operator"] == "aten::conv2d"
    assert profile.operators[0]["calls"] == 2
    with gzip.open(tmp_path / "trace.json.gz") as file:
        assert json.load(file)["traceEvents"]


def test_a_profiler_that_fails_does_not_end_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profiler").touch()  # where its directory should be
    profiler = OperatorProfiler((0, 0), tmp_path / "profiler")
    for step in range(3):
        profiler.before_step(step)
    profiler.close()
    assert capsys.readouterr().out.count("Operators are not timed") == 1


def test_steps_are_a_range() -> None:
    assert parse_steps("off") is None
    assert parse_steps("10-14") == (10, 14)
    for text in ("5", "9-3", "0-500", "a-b"):
        with pytest.raises(UserError, match="profile-steps must be"):
            parse_steps(text)


def utilisation(cpu: float = 50, gpu: float = 95, memory: float = 80, wait: float = 0) -> Profile:
    """Ten minutes of a machine with two cores and two GPUs; a little noise on all."""
    generator = np.random.default_rng(0)

    def around(level: float) -> Any:
        return np.clip(level + generator.normal(0, 1, 1200), 0, 100)

    values = {}
    for dimension, level, name in (
        ("CPUUtilization", cpu, "cpu"),
        ("I/OWaitPercentage", wait, "cpu"),
        ("GPUUtilization", gpu, "gpu"),
        ("GPUMemoryUtilization", memory, "gpu"),
    ):
        for number in range(2):
            values[dimension, f"{name}{number}"] = around(level)
    return Profile(
        values=values,
        phases={"forward": np.full(500, 0.1)},
        totals={"forward": 50.0},
        first_step_after=60.0,
        workers=4,
        cores=4,
    )


def changed(change: Callable[[Profile], None]) -> Profile:
    profile = utilisation()
    change(profile)
    return profile


def grow(profile: Profile) -> None:
    profile.values["GPUMemoryUtilization", "gpu0"] = np.linspace(0, 100, 1200) ** 2 / 100


def lean(profile: Profile) -> None:
    profile.values["GPUUtilization", "gpu1"] = np.full(1200, 75.0)


def stutter(profile: Profile) -> None:
    seconds = np.full(500, 0.1)
    seconds[::40] = 2.0
    profile.phases = {"forward": seconds}


def one_worker(profile: Profile) -> None:
    profile.workers = 1  # the finding of an earlier project: one worker on four cores


def late(profile: Profile) -> None:
    profile.first_step_after = 1500.0


@pytest.mark.parametrize(
    ("rule", "profile"),
    [
        ("CPUBottleneck", utilisation(cpu=99, gpu=3)),
        ("IOBottleneck", utilisation(wait=80, gpu=3)),
        ("LowGPUUtilization", utilisation(gpu=14)),
        ("GPUMemoryIncrease", changed(grow)),
        ("BatchSize", utilisation(gpu=14, memory=10)),
        ("LoadBalancing", changed(lean)),
        ("Dataloader", changed(one_worker)),
        ("MaxInitializationTime", changed(late)),
        ("StepOutlier", changed(stutter)),
    ],
)
def test_a_rule_fires_on_its_illness(rule: str, profile: Profile) -> None:
    results = {result.rule: result for result in look(profile)}
    if rule == "GPUMemoryIncrease":
        (kind,) = [each for each in PROFILE_RULES if each.__name__ == rule]
        (results[rule],) = look(profile, [kind(increase=1.0)])  # type: ignore[call-arg]
    assert results[rule].status == "IssuesFound", results[rule]


def test_no_rule_fires_on_a_well_used_machine() -> None:
    assert [result.status for result in look(utilisation())] == ["NoIssuesFound"] * 11


def test_rules_that_need_a_gpu_say_so(sampled: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    results = {result.rule: result for result in look(read(sampled))}
    for rule in ("CPUBottleneck", "LowGPUUtilization", "BatchSize", "LoadBalancing"):
        assert results[rule].status == "Error"
        assert "there is no GPU" in results[rule].evidence["reason"]


def test_advice_names_a_batch_that_is_too_small() -> None:
    # The finding of an earlier project: "GPU utilised at 14 %, batch too small".
    (first, *_) = [line for line in advice(utilisation(gpu=14)) if "gpu0" in line]
    assert "used 14 % on average: the batch is too small" in first


def test_check_takes_a_profile_too(sampled: Path) -> None:
    clock = Clock()
    clock.begin()
    clock.mark("forward")
    clock.end_step()
    write_steps(clock, sampled, started=clock.created - 2000, workers=1, cores=4)
    done = subprocess.run(
        [sys.executable, "-m", "container.debugging", "check", str(sampled)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    fired = [line["rule"] for line in lines if line["status"] == "IssuesFound"]
    assert fired == ["Dataloader", "MaxInitializationTime"]


def test_sampling_can_be_switched_off(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    assert opt_ml.train({"profile": "false"}).returncode == 0
    assert not (opt_ml.base / "output/profiler/system").exists()
    assert (opt_ml.base / "output/profiler/steps.json").exists()
