"""System metrics that smdebug's own readers open, timed steps, and the rules on both."""

import gzip
import json
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opt_ml import ROOT, OptMl, write_images

from container.debugging.clock import PHASES, Clock
from container.debugging.observer import Observer
from container.debugging.profiler.live import LiveRules, last_look
from container.debugging.profiler.operators import OperatorProfiler, parse_steps
from container.debugging.profiler.profile import Profile, read
from container.debugging.profiler.rules import PROFILE_RULES
from container.debugging.profiler.step_log import StepLog
from container.debugging.profiler.steps import MaxInitializationTime, StepOutlier
from container.debugging.profiler.utilisation import (
    BatchSize,
    CPUBottleneck,
    LoadBalancing,
    LowGPUUtilization,
    OverallSystemUsage,
)
from container.debugging.report.resources import advice
from container.debugging.rules.rule import evaluate
from container.debugging.selection import as_text, select_profile_rules
from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.job import Job

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of this machine."""
    directory = tmp_path_factory.mktemp("profiler")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "container.debugging.profiler.sampler",
            str(directory),
            "algo-2",
            "[]",
        ],
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


class LateTimer:
    """A GPU's events: work is done when the test says so, and took what it says."""

    every = 10

    def __init__(self) -> None:
        self.given = 0
        self.done = 0

    def now(self) -> int:
        self.given += 1
        return self.given

    def is_past(self, moment: int) -> bool:
        return moment <= self.done

    def between(self, first: int, second: int) -> float:
        assert second <= self.done, "a moment was read before it was past"
        return float(second - first)


def test_a_gpus_moments_are_read_when_they_are_past_and_never_waited_for() -> None:
    timer = LateTimer()
    clock = Clock(timer)
    clock.begin()
    for step in range(25):
        clock.mark("forward")
        clock.mark("backward")
        clock.end_step()
        if step == 15:
            timer.done = timer.given
    assert list(clock.numbers) == [0, 10]  # and 20, once it is past
    timer.done = timer.given
    assert clock.totals() == {
        **dict.fromkeys(PHASES, 0.0),
        "forward": pytest.approx(25),
        "backward": pytest.approx(25),
    }
    assert timer.given == 3 * 3


def test_evaluations_between_unmeasured_steps_are_counted() -> None:
    clock = Clock(LateTimer())
    clock.begin()
    clock.end_step()
    clock.begin()
    time.sleep(0.02)
    clock.mark("evaluation")
    assert clock.totals()["evaluation"] >= 0.02


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


@pytest.mark.parametrize(
    ("before", "after", "timed"),
    [
        pytest.param(3, 9, 1, id="ends it"),
        pytest.param(2, 9, 3, id="comes just before"),
        pytest.param(0, 4, 2, id="comes long before"),
    ],
)
def test_operators_of_an_evaluation_are_not_timed(
    tmp_path: Path, before: int, after: int, timed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = Observer(Job(tmp_path), Hyperparameters(profile=False, profile_steps="2-4"))
    convolution, linear = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(8, 8)

    def train(steps: int) -> None:
        observer.training()
        for _ in range(steps):
            convolution(torch.zeros(1, 3, 8, 8))
            observer.stepped(0.1)

    train(before)
    observer.evaluation()
    linear(torch.zeros(1, 8))
    train(after)
    observer.finish()
    operators = read(tmp_path / "output/profiler").operators
    calls = {each["operator"]: each["calls"] for each in operators}
    assert calls["aten::conv2d"] == timed
    assert "aten::linear" not in calls
    said = "Operators are timed up to step 2: an evaluation follows."
    assert (said in capsys.readouterr().out) is (timed == 1)


def test_steps_that_never_come_have_no_operators(tmp_path: Path) -> None:
    profiler = OperatorProfiler((2, 4), tmp_path)
    profiler.before_step(2)  # the last step was step 1
    profiler.before_evaluation(2)
    profiler.close()
    assert not list(tmp_path.iterdir())


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


MINUTES = 10


def record(
    directory: Path,
    *,
    cpu: float = 50,
    gpu: float = 95,
    memory: float = 80,
    wait: float = 0,
    change: Callable[[str, Any], Any] = lambda name, values: values,
    seconds: Any = None,
    first_step_after: float = 60,
    workers: int = 4,
) -> Path:
    """Ten minutes of a machine with two cores and two GPUs, as files in the platform's format."""
    generator = np.random.default_rng(0)
    started, count = 1.7e9, MINUTES * 120
    lines: dict[int, list[str]] = {}
    for kind, dimension, level in (
        ("cpu", "CPUUtilization", cpu),
        ("cpu", "I/OWaitPercentage", wait),
        ("gpu", "GPUUtilization", gpu),
        ("gpu", "GPUMemoryUtilization", memory),
    ):
        for number in range(2):
            around = np.clip(level + generator.normal(0, 1, count), 0, 100)
            for index, value in enumerate(change(f"{dimension} {kind}{number}", around)):
                entry = {
                    "Type": kind,
                    "Name": f"{kind}{number}",
                    "Dimension": dimension,
                    "Value": round(float(value), 2),
                    "NodeId": "algo-1",
                    "Timestamp": started + index / 2,
                }
                lines.setdefault(index // 120, []).append(json.dumps(entry))
    for minute, entries in lines.items():
        path = directory / f"system/incremental/2023111422/{int(started) + 60 * minute}.algo-1.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(entries) + "\n")
    head = {
        "format": "kennel-steps/2",
        "started": started,
        "phases": ["forward"],
        "workers": workers,
        "cores": 4,
    }
    rows: list[Any] = [head]
    if seconds is not None:
        begun = started + first_step_after
        rows += [[step, begun, 0.1, float(value)] for step, value in enumerate(seconds)]
        rows.append({"totals": {"forward": float(np.sum(seconds))}})
    (directory / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


STEADY = np.full(500, 0.1)
STUTTERING = np.where(np.arange(500) % 40 == 0, 2.0, STEADY)


def grow(name: str, values: Any) -> Any:
    steps = 6 * (np.arange(len(values)) >= 1100)
    return values + steps if name == "GPUMemoryUtilization gpu0" else values


def lean(name: str, values: Any) -> Any:
    return values - 20 if name == "GPUUtilization gpu1" else values


Fires = tuple[str, dict[str, Any]]

ILLNESSES: list[Fires] = [
    ("CPUBottleneck", {"cpu": 99, "gpu": 3}),
    ("IOBottleneck", {"wait": 80, "gpu": 3}),
    # The findings of an earlier project: "GPU utilised at 14 %", "batch too small", "data loader
    # ran one worker on four cores".
    ("LowGPUUtilization", {"gpu": 14}),
    ("BatchSize", {"gpu": 14, "memory": 10}),
    ("Dataloader", {"workers": 1}),
    ("GPUMemoryIncrease", {"change": grow}),
    ("LoadBalancing", {"change": lean}),
    ("MaxInitializationTime", {"first_step_after": 1500.0}),
    ("StepOutlier", {"seconds": STUTTERING}),
]


UTILISATION = {
    "CPUBottleneck",
    "IOBottleneck",
    "LowGPUUtilization",
    "BatchSize",
    "GPUMemoryIncrease",
    "LoadBalancing",
}


@pytest.mark.parametrize(("rule", "illness"), ILLNESSES, ids=[name for name, _ in ILLNESSES])
def test_a_rule_fires_on_its_illness_and_the_others_do_not(
    tmp_path: Path, rule: str, illness: dict[str, Any]
) -> None:
    directory = record(tmp_path, **{"seconds": STEADY, **illness})
    done = check(directory)
    assert done.returncode == 1
    results = {line["rule"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert list(results) == [kind.__name__ for kind in PROFILE_RULES]
    fired = {name for name, result in results.items() if result["status"] == "IssuesFound"}
    # An idle GPU is a little used one, whatever it waits for.
    related = {"CPUBottleneck": "LowGPUUtilization", "IOBottleneck": "LowGPUUtilization"}
    related["BatchSize"] = "LowGPUUtilization"
    assert fired == {rule} | ({related[rule]} if rule in related else set())
    assert results[rule]["evidence"]


def test_no_rule_fires_on_a_well_used_machine(tmp_path: Path) -> None:
    done = check(record(tmp_path, seconds=STEADY))
    assert done.returncode == 0
    statuses = [json.loads(line)["status"] for line in done.stdout.splitlines()]
    assert statuses == ["NoIssuesFound"] * len(PROFILE_RULES)


def test_every_profile_rule_that_can_fire_has_an_illness() -> None:
    never = {"OverallSystemUsage", "OverallFrameworkMetrics"}
    assert {name for name, _ in ILLNESSES} | never == {kind.__name__ for kind in PROFILE_RULES}


def test_a_start_without_a_first_step_is_seen_while_it_lasts(tmp_path: Path) -> None:
    directory = record(tmp_path)
    found = evaluate(MaxInitializationTime(threshold=5), read(directory))
    assert found.fired
    assert found.evidence["minutes"] == pytest.approx(MINUTES, abs=0.1)


def test_a_start_is_seen_before_anything_tells_of_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (record(tmp_path) / "steps.jsonl").unlink()  # written after all images are prepared
    rule = MaxInitializationTime(threshold=5)
    LiveRules(tmp_path, as_text([rule]), since=1.7e9).look()
    assert "Rule MaxInitializationTime fired at step 0" in capsys.readouterr().out
    (tmp_path / "fired.jsonl").unlink()
    (found,) = last_look(tmp_path, [rule], since=1.7e9)
    assert found.evidence["minutes"] == pytest.approx(MINUTES, abs=0.1)
    # Of another's profile without steps it cannot be told when the first one came.
    assert evaluate(rule, read(tmp_path)).status == "Error"


def test_an_outlier_is_named_by_its_number_in_training() -> None:
    seconds = {"forward": np.roll(STUTTERING, 5)}
    profile = Profile(numbers=range(100, 5100, 10), phases=seconds)
    found = StepOutlier().check(profile)
    assert found is not None
    assert found.step == 150


@pytest.mark.parametrize(
    ("rule", "illness"), [each for each in ILLNESSES if each[0] in UTILISATION]
)
def test_samples_are_told_as_such_and_not_as_steps(
    tmp_path: Path, rule: str, illness: dict[str, Any]
) -> None:
    (chosen,) = select_profile_rules(rule)
    result = evaluate(chosen, read(record(tmp_path, **illness)))
    assert result.fired
    assert result.step is None
    samples = result.evidence["samples"]
    # The memory of `grow` is more from sample 1,100 on, and the rule's windows are of ten.
    assert 1100 < samples <= 1110 if rule == "GPUMemoryIncrease" else samples == MINUTES * 120


def test_a_rule_on_the_profile_fires_while_training_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = LiveRules(tmp_path, as_text(select_profile_rules("default")), since=0)
    live.look()
    assert "fired" not in capsys.readouterr().out
    record(tmp_path, seconds=STEADY, gpu=14)
    live.look()
    live.look()
    said = capsys.readouterr().out
    assert said.count("Rule LowGPUUtilization fired: A GPU is hardly used. (gpu gpu0, ") == 1
    assert "What to try: Raise batch-size" in said
    # The last look neither forgets it nor says it again.
    results = {
        each.rule: each for each in last_look(tmp_path, select_profile_rules("all"), since=0)
    }
    assert results["LowGPUUtilization"].fired
    assert "fired" not in capsys.readouterr().out


def test_a_profile_rule_takes_parameters(tmp_path: Path) -> None:
    directory = record(tmp_path, seconds=STEADY, gpu=60)
    rule = ("--rule", "LowGPUUtilization")
    assert check(directory, *rule).returncode == 1
    assert check(directory, *rule, "--param", "threshold_p95=50").returncode == 0
    (chosen,) = select_profile_rules("Overfit,low_gpu_utilization:patience=9")
    assert vars(chosen)["patience"] == 9
    refused = check(directory, "--rule", "Overfit")
    assert refused.returncode == 2
    assert "Overfit looks at tensors" in refused.stderr


def check(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "container.debugging", "check", str(path), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_samples_recorded_elsewhere_are_smdebugs_too(tmp_path: Path) -> None:
    from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader

    reader = LocalSystemMetricsReader(str(record(tmp_path)))
    reader.refresh_event_file_list()
    events = reader.get_events(0, 2e9, unit=_seconds())
    assert len(events) == 8 * MINUTES * 120


def test_rules_that_need_a_gpu_say_so(sampled: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for kind in (CPUBottleneck, LowGPUUtilization, BatchSize, LoadBalancing):
        result = evaluate(kind(), read(sampled))
        assert result.status == "Error"
        assert "there is no GPU" in result.evidence["reason"]


def test_advice_names_a_batch_that_is_too_small(tmp_path: Path) -> None:
    # The finding of an earlier project: "GPU utilised at 14 %, batch too small".
    said = advice(read(record(tmp_path, gpu=14)))
    (first, *_) = [line for line in said if "gpu0" in line]
    assert "used 14 % on average: the batch is too small" in first


def test_the_steps_of_a_resumed_training_are_one_timeline(tmp_path: Path) -> None:
    for trained, steps in ((0, 6), (4, 3)):
        clock = Clock()
        log = StepLog(tmp_path, clock, trained=trained, started=time.time(), workers=1, cores=4)
        clock.begin()
        for _ in range(steps):
            clock.mark("forward")
            clock.end_step()
        log.write(array("f", [0.5] * steps), now=True)
    profile = read(tmp_path)
    assert list(profile.numbers) == [0, 1, 2, 3, 4, 5, 6]
    assert len(profile.step_seconds) == len(profile.rates) == 7
    assert profile.totals["forward"] > 0


def test_sampling_can_be_switched_off(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    assert opt_ml.train({"profile": "false"}).returncode == 0
    assert not (opt_ml.base / "output/profiler/system").exists()
    assert (opt_ml.base / "output/profiler/steps.jsonl").exists()
