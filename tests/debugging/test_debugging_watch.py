"""Rules beside a training: live, from the command line, and with the power to stop it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from opt_ml import ROOT, OptMl, write_images

from container.debugging.catalog import create
from container.debugging.observer import Observer
from container.debugging.results import read_results
from container.debugging.rules import RULES
from container.debugging.selection import as_text, from_text, select
from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.job import Job

STANDARD = ("losses", "gradients", "weights", "biases", "updates", "labels", "predictions")


def check(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "container.debugging", "check", str(path), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[OptMl, str]:
    """A whole training with a learning rate that ruins it, and what it printed."""
    base = tmp_path_factory.mktemp("watched")
    opt_ml = OptMl(base)
    write_images(opt_ml.channel("train"), count=40)
    configuration = {
        "CollectionConfigurations": [
            {"CollectionName": name, "CollectionParameters": {"save_interval": "1"}}
            for name in ("losses", "biases")
        ]
    }
    opt_ml.write_config("debughookconfig.json", configuration)
    done = opt_ml.train({"lr": "1000", "optimizer": "sgd", "batch-size": "4", "test-split": "0"})
    assert done.returncode == 1
    assert "Training has diverged" in done.stderr
    return opt_ml, done.stdout


def test_a_rule_that_fires_says_so_in_the_log(watched: tuple[OptMl, str]) -> None:
    opt_ml, log = watched
    assert "Rule ExplodingTensor fired at step" in log
    assert "What to try: Lower the learning rate" in log
    results = {each.rule: each for each in read_results(opt_ml.base / "output/data/rules.jsonl")}
    assert results["ExplodingTensor"].status == "IssuesFound"
    assert "VanishingGradient" not in results  # there are no gradients to look at


def test_check_prints_one_json_line_for_each_rule(watched: tuple[OptMl, str]) -> None:
    done = check(watched[0].base / "output/tensors")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["rule"] for line in lines] == [kind.__name__ for kind in RULES]
    assert {frozenset(line) for line in lines} == {
        frozenset(("rule", "status", "step", "evidence"))
    }
    # The finding of an earlier project, whose hook saved no gradients: "VanishingGradient: Error".
    assert lines[0]["status"] == "Error"
    assert lines[0]["evidence"] == {"reason": "no gradients were saved"}
    assert done.returncode == 1


def test_check_takes_a_rule_and_its_parameters(watched: tuple[OptMl, str]) -> None:
    tensors = watched[0].base / "output/tensors"
    assert check(tensors, "--rule", "stalled_training_rule").returncode == 0
    assert check(tensors, "--rule", "StalledTraining", "--param", "threshold=0").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--rule", "Overfitting"), "did you mean 'Overfit'?"),
        (("--rule", "Overfit", "--param", "delta=1"), "has a parameter"),
        (("--rule", "Overfit", "--param", "patience=soon"), "cannot be 'soon'"),
        (("--param", "patience"), "NAME=VALUE"),
    ],
)
def test_check_refuses_what_it_does_not_know(
    watched: tuple[OptMl, str], arguments: tuple[str, ...], sentence: str
) -> None:
    done = check(watched[0].base / "output/tensors", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_check_needs_a_directory_of_smdebugs(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert done.returncode == 2
    assert "has no index" in done.stderr


def test_check_starts_without_torch() -> None:
    program = "import sys, container.debugging.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)


def test_a_rule_can_stop_training(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=40)
    done = opt_ml.train(
        {
            "debug": "losses",
            "rules": "StalledTraining:threshold=0",
            "on-rule": "stop",
            "epochs": "2000",
        }
    )
    assert done.returncode == 0, done.stderr
    assert "StalledTraining fired and on-rule is stop" in done.stdout
    assert "Stopped as asked." in done.stdout
    assert opt_ml.facts()["metrics"]
    assert not (opt_ml.base / "output/failure").exists()
    content = json.loads((opt_ml.base / "output/data/report.json").read_text())
    assert content["outcome"] == "stopped"
    assert content["rules"][0]["status"] == "IssuesFound"


def test_the_rules_end_with_a_training_that_is_killed(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=40)
    flags = ["--weights=none", "--trainable=all", "--image-size=32", "--epochs=2000"]
    process = opt_ml.start(*flags, "--debug=losses")
    try:
        assert process.stdout
        next(line for line in process.stdout if "smdebug saves" in line)
        watcher = wait_for_child(process.pid)
        assert os.getpriority(os.PRIO_PROCESS, watcher) == 19
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{watcher}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{watcher}").exists()


def wait_for_child(pid: int) -> int:
    """The process of the rules, once it has made itself unimportant."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[16] == "19":
                return int(path.parent.name)
        time.sleep(0.1)
    raise AssertionError("the training has no process for its rules")


def test_a_misspelt_rule_ends_the_job_at_once(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    done = opt_ml.train({"rules": "Overfiting"})
    assert done.returncode == 1
    assert opt_ml.failure() == "There is no rule 'Overfiting'; did you mean 'Overfit'?"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rules": "Overfit"}, "rules=Overfit looks at tensors, and debug=off saves none."),
        ({"rules": "all"}, "rules=all looks at tensors, and debug=off saves none."),
        ({"on_rule": "stop"}, "on-rule=stop follows rules that look at tensors, and debug=off"),
    ],
)
def test_rules_that_could_see_nothing_are_refused(
    tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    job = OptMl(tmp_path)
    quiet = Hyperparameters(profile=False, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=sentence):
        Observer(Job(tmp_path), quiet)
    Observer(Job(tmp_path), replace(quiet, debug="losses"))
    job.write_config("debughookconfig.json", {"CollectionConfigurations": []})
    Observer(Job(tmp_path), quiet)


def test_rules_on_the_profile_need_no_tensors(tmp_path: Path) -> None:
    Observer(Job(tmp_path), Hyperparameters(profile=False, rules="LowGPUUtilization"))


def test_rules_look_only_where_there_is_something_to_see() -> None:
    losses = {rule.name for rule in select("default", ("losses",), pretrained=False)}
    assert losses == {
        "ExplodingTensor",
        "Overfit",
        "Overtraining",
        "LossNotDecreasing",
        "StalledTraining",
    }
    assert not select("off", STANDARD, pretrained=False)
    assert len(select("all", (), pretrained=False)) == len(RULES)
    names = [rule.name for rule in select("default", STANDARD, pretrained=True)]
    assert "PoorWeightInitialization" not in names


def test_rules_travel_to_their_process_unchanged() -> None:
    chosen = select("all", (), pretrained=False)
    assert from_text(as_text(chosen)) == chosen
    (rule,) = select("Overfit:patience=3:ratio_threshold=0.5", (), pretrained=False)
    assert vars(rule) == vars(create("Overfit", {})) | {"patience": 3, "ratio_threshold": 0.5}


def test_rules_need_a_parameter_with_a_value() -> None:
    with pytest.raises(UserError, match="must be a parameter"):
        select("Overfit:patience", (), pretrained=False)
