import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from launcher_workspace import TINY, Workspace, wait_until

from container.errors import UserError
from container.metrics import VALIDATION_ACCURACY
from launcher import ranges, recipes, tuning
from launcher.importance import importances
from launcher.local import search, tuner
from launcher.tuning import Result, Search, Trial
from launcher.tuning_page import page

pytest_plugins = ("launcher_fixtures",)

FAST = ("weights=none", "trainable=all", "image-size=32")


def dry(place: Workspace, *arguments: str) -> dict[str, Any]:
    answer = place.run("tune", "--data", place.data, "--dry-run", *arguments)
    assert answer.code == 0, answer.stderr
    request: dict[str, Any] = answer.json["requests"][0]["request"]
    return request


def test_the_declared_ranges_are_searched_unless_others_are_given(workspace: Workspace) -> None:
    config = dry(workspace)["HyperParameterTuningJobConfig"]
    assert config["ParameterRanges"] == {
        "IntegerParameterRanges": [
            {"Name": "epochs", "MinValue": "2", "MaxValue": "10", "ScalingType": "Linear"}
        ],
        "ContinuousParameterRanges": [
            {"Name": "lr", "MinValue": "0.0001", "MaxValue": "0.1", "ScalingType": "Logarithmic"},
            {"Name": "eps", "MinValue": "1e-09", "MaxValue": "1e-08", "ScalingType": "Logarithmic"},
        ],
        "CategoricalParameterRanges": [{"Name": "batch-size", "Values": ["32", "64", "128"]}],
    }
    assert config["HyperParameterTuningJobObjective"] == {
        "Type": "Maximize",
        "MetricName": "validation:accuracy",
    }
    assert config["ResourceLimits"] == {
        "MaxNumberOfTrainingJobs": 16,
        "MaxParallelTrainingJobs": 2,
    }
    own = dry(workspace, "--range", "lr=1e-3:1e-2", "--set", "seed=3")
    given = own["HyperParameterTuningJobConfig"]["ParameterRanges"]
    assert list(given) == ["ContinuousParameterRanges"]
    assert given["ContinuousParameterRanges"][0]["ScalingType"] == "Auto"
    assert own["TrainingJobDefinition"]["StaticHyperParameters"] == {"seed": "3"}


def test_strategies_keep_the_services_own_rules(workspace: Workspace) -> None:
    hyperband = dry(workspace, "--strategy", "Hyperband", "--epochs", "8")
    config = hyperband["HyperParameterTuningJobConfig"]
    assert config["TrainingJobEarlyStoppingType"] == "Off"
    assert config["StrategyConfig"]["HyperbandStrategyConfig"] == {
        "MinResource": 1,
        "MaxResource": 8,
    }
    assert hyperband["TrainingJobDefinition"]["StaticHyperParameters"] == {"epochs": "8"}
    grid = dry(workspace, "--strategy", "Grid", "--range", "lr=0.1,0.01", "batch-size=16,32")
    limits = grid["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits == {"MaxParallelTrainingJobs": 2}


@pytest.mark.parametrize("recipe", [recipe.name for recipe in recipes.RECIPES])
def test_every_recipe_is_a_request_that_the_service_takes(
    workspace: Workspace, recipe: str
) -> None:
    request = dry(workspace, "--recipe", recipe)
    found = recipes.recipe(recipe)
    assert request["TrainingJobDefinition"]["StaticHyperParameters"]["arch"].startswith("resnet")
    given = request["HyperParameterTuningJobConfig"]["ParameterRanges"]
    assert {entry["Name"] for kind in given.values() for entry in kind} == {
        text.split("=")[0] for text in found.ranges
    }
    own = dry(workspace, "--recipe", recipe, "--set", "lr=0.01")
    assert "lr" not in json.dumps(own["HyperParameterTuningJobConfig"]["ParameterRanges"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--range", "lr"], "--range takes NAME=LOW:HIGH[:log]"),
        (["--range", "lrr=1:2"], "There is no hyperparameter 'lrr' to search; did you mean 'lr'?"),
        (["--range", "lr=0:1"], "lr must be greater than 0, got 0"),
        (["--range", "lr=1:0.1"], "--range lr must go from low to high"),
        (["--range", "lr=1:2:logg"], "--range lr must be LOW:HIGH"),
        (["--range", "arch=1:2"], "--range arch must be a list"),
        (["--range", "batch-size=32,32"], "--range batch-size names a value twice"),
        (["--range", "lr=1:2", "lr=1,2"], "--range names lr twice"),
        (["--range", "lr=1:2", "--set", "lr=1"], "lr is both fixed (1.0) and searched"),
        (["--recipe", "quik"], "There is no recipe 'quik'; did you mean 'quick'?"),
        (["--objective", "accuracy"], "There is no metric 'accuracy'; known are train:loss"),
        (["--strategy", "Grid"], "Grid tries every combination, so every range must be a list"),
        (
            ["--strategy", "Grid", "--jobs", "4", "--range", "lr=0.1,0.01", "batch-size=16,32,64"],
            "Grid tries every combination, which makes 6 trials, and --jobs allows 4",
        ),
        (["--strategy", "Hyperband", "--range", "epochs=1:3"], "Hyperband chooses the epochs"),
        (["--strategy", "Gird"], "invalid choice: 'Gird'"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--warm-start"], "There is no tuning to learn from yet"),
    ],
)
def test_refusals(workspace: Workspace, arguments: list[str], sentence: str) -> None:
    answer = workspace.run("tune", "--data", workspace.data, *arguments)
    assert answer.code == 1
    assert sentence in answer.stderr


def test_tune_then_deploy_and_train_the_best(workspace: Workspace) -> None:
    answer = workspace.run(
        *("tune", "--data", workspace.data, "--set", *FAST, "epochs=1", "debug=standard"),
        *("--range", "lr=1e-4:1e-2:log", "--jobs", "2", "--parallel", "2", "--json"),
    )
    assert answer.code == 0, answer.stderr
    found = answer.json
    assert len(found["trials"]) == 2
    # Every trial was watched by Kennel's hook, and the winner is served as it is.
    for trial in found["trials"]:
        job = workspace.path / ".kennel/jobs/training-jobs" / trial["name"]
        assert any((job / "opt-ml/output/tensors").rglob("*.tfevents"))
    assert found["best_training_job"] in [trial["name"] for trial in found["trials"]]
    assert found["validation:accuracy"] == max(trial["objective"] for trial in found["trials"])
    assert (workspace.path / "tuning.html").is_file()
    described = workspace.client.describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=found["tuning_job"]
    )
    assert described["BestTrainingJob"]["TrainingJobName"] == found["best_training_job"]
    assert described["TrainingJobStatusCounters"] == {"Completed": 2}

    assert workspace.run("report").code == 0  # there is no other job than the tuning's
    deployed = workspace.run("deploy", "--best", "--json")
    assert found["best_training_job"] in deployed.json["artifact"]
    train = workspace.run("train", "--best", "--dry-run")
    values = json.loads(train.stdout[train.stdout.index("{") :])["requests"][0]["request"]
    assert values["HyperParameters"]["lr"] == str(float(found["best_hyperparameters"]["lr"]))
    assert values["HyperParameters"]["weights"] == "none"

    warm = workspace.run("tune", "--warm-start", "--dry-run").json["requests"][0]["request"]
    assert warm["WarmStartConfig"] == {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": found["tuning_job"]}],
        "WarmStartType": "TransferLearning",
    }
    assert "tuning" in workspace.run("status").stdout
    would = workspace.run("tuning", "--page", "again.html", "--dry-run")
    assert "would be drawn on again.html" in would.stdout
    assert not (workspace.path / "again.html").exists()


def test_when_every_trial_fails_the_tuning_says_why(workspace: Workspace) -> None:
    (workspace.path / "one/only-class").mkdir(parents=True)
    answer = workspace.run(
        *("tune", "--data", workspace.path / "one", "--set", *TINY, "--jobs", "2"),
        *("--range", "lr=0.1,0.2"),
    )
    assert answer.code == 1
    assert "No training job reported the objective metric." in answer.stderr
    assert "The first to fail said: AlgorithmError" in answer.stderr


def test_a_tuning_outlives_its_launcher_and_is_stopped_with_its_trials(
    workspace: Workspace,
) -> None:
    started = workspace.run(
        *("tune", "--data", workspace.data, "--set", *FAST, "epochs=500", "--no-wait", "--json"),
        *("--range", "lr=0.1,0.2", "--jobs", "2", "--parallel", "1"),
    )
    name = started.json["tuning_job"]
    client = workspace.client

    def statuses() -> list[str]:
        answer = client.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name
        )
        return [entry["TrainingJobStatus"] for entry in answer["TrainingJobSummaries"]]

    wait_until(lambda: bool(statuses()))
    client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    def status() -> str:
        found = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return str(found["HyperParameterTuningJobStatus"])

    wait_until(lambda: status() != "InProgress")
    assert status() == "Stopped"
    assert statuses() == ["Stopped"]


def config(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "m"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 30, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": ranges.as_request(ranges.read(["lr=1e-4:1:log", "batch-size=16,32"])),
        "RandomSeed": 1,
    }
    return {**found, **changes}


def best_of(given: dict[str, Any], trials: int) -> float:
    """The least distance that a search finds to a known optimum."""
    study, space = search.study(given), search.space(given["ParameterRanges"])
    for _ in range(trials):
        trial = study.ask(space)
        distance = abs(float(trial.params["lr"]) - 0.01) * 10
        study.tell(trial, distance + (trial.params["batch-size"] == "16"))
    return float(study.best_value)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_strategy_searches() -> None:
    assert best_of(config(), 30) < 0.05
    assert best_of(config(Strategy="Random"), 30) < 1
    limits = {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 9}}
    assert best_of(config(Strategy="Hyperband", StrategyConfig=limits), 30) < 0.5
    grid = ranges.as_request(ranges.read(["lr=0.1,0.01", "batch-size=16,32"]))
    given = config(Strategy="Grid", ParameterRanges=grid)
    assert search.combinations(given) == 4
    assert best_of(given, 4) == 0


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_early_stopping_ends_a_hopeless_trial() -> None:
    given = config(TrainingJobEarlyStoppingType="Auto")
    study, space = search.study(given), search.space(given["ParameterRanges"])
    for value in (0.1, 0.2, 0.3):
        trial = study.ask(space)
        for epoch in range(1, 6):
            trial.report(value, epoch)
        study.tell(trial, value)
    hopeless = study.ask(space)
    hopeless.report(9.0, 1)
    assert not hopeless.should_prune()  # the first epoch says little
    hopeless.report(9.0, 2)
    assert hopeless.should_prune()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_warm_start_learns_what_lies_inside_the_ranges() -> None:
    given = config()
    study, space = search.study(given), search.space(given["ParameterRanges"])
    earlier = [
        ({"lr": "0.01", "batch-size": "32"}, 0.1),
        ({"lr": "5", "batch-size": "64"}, 0.2),
        ({"lr": "0.02", "arch": "resnet18"}, 0.3),
    ]
    assert search.learn(study, space, earlier) == 2
    assert study.best_value == 0.1


class Jobs:
    """Training jobs that take five looks, one epoch each, and whose loss is their learning rate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, dict[str, Any]] = {}

    def create_training_job(self, **request: Any) -> None:
        name = request["TrainingJobName"]
        assert request["HyperParameters"]["_tuning_objective_metric"] == "validation:loss"
        (self.folder / "training-jobs" / name).mkdir(parents=True)
        values = {"loss": float(request["HyperParameters"]["lr"]), "epochs": 0}
        self.jobs[name] = {"TrainingJobStatus": "InProgress", **values}

    def describe_training_job(self, **request: Any) -> dict[str, Any]:
        name = request["TrainingJobName"]
        job = self.jobs[name]
        if job["TrainingJobStatus"] == "InProgress":
            job["epochs"] += 1
            with (self.folder / "training-jobs" / name / "log.txt").open("a") as log:
                log.write(f"epoch: validation:loss={job['loss']:.6g};\n")
            if job["epochs"] == 5:
                job["TrainingJobStatus"] = "Completed"
        return job

    def list_training_jobs_for_hyper_parameter_tuning_job(self, **request: Any) -> dict[str, Any]:
        """An earlier tuning that has found that small learning rates are good."""
        assert request == {"HyperParameterTuningJobName": "earlier"}
        rates = [10 ** -(index / 4) for index in range(16)]
        return {
            "TrainingJobSummaries": [
                {
                    "TunedHyperParameters": {"lr": str(rate)},
                    "FinalHyperParameterTuningJobObjectiveMetric": {
                        "MetricName": "validation:loss",
                        "Value": rate,
                    },
                }
                for rate in rates
            ]
        }

    def stop_training_job(self, **request: Any) -> None:
        self.jobs[request["TrainingJobName"]]["TrainingJobStatus"] = "Stopped"


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("strategy", ["Bayesian", "Hyperband"])
def test_hopeless_trials_are_stopped_and_the_best_is_found(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(tuner, "POLL_SECONDS", 0)
    request = dry(
        workspace,
        *("--strategy", strategy, "--epochs", "9", "--objective", "validation:loss"),
        *("--range", "lr=1e-4:1:log", "--jobs", "20", "--parallel", "2"),
    )
    jobs: Any = Jobs(workspace.path)
    directory = workspace.path / "hyper-parameter-tuning-jobs/tuning"
    tuner.Tuner(directory, jobs, request).run()
    progress = json.loads((directory / "progress.json").read_text())
    assert progress["status"] == "Completed"
    assert len(progress["tuned"]) == 20
    stopped = [name for name, job in jobs.jobs.items() if job["TrainingJobStatus"] == "Stopped"]
    assert 2 <= len(stopped) < 20
    losses = {name: job["loss"] for name, job in jobs.jobs.items()}
    assert progress["best"] == min(losses, key=lambda name: losses[name])
    assert progress["best"] not in stopped


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_warm_start_begins_where_the_earlier_tuning_was_good(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "POLL_SECONDS", 0)
    request = dry(
        workspace,
        *("--objective", "validation:loss", "--range", "lr=1e-4:1:log", "--jobs", "6"),
    )

    def mean_loss(name: str, given: dict[str, Any]) -> float:
        jobs: Any = Jobs(workspace.path / name)
        directory = workspace.path / name / "hyper-parameter-tuning-jobs/tuning"
        tuner.Tuner(directory, jobs, given).run()
        return float(sum(job["loss"] for job in jobs.jobs.values()))

    parents = {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "earlier"}]}
    assert mean_loss("warm", {**request, "WarmStartConfig": parents}) < mean_loss("cold", request)


def a_result(direction: str = "Maximize") -> Result:
    trials = [
        Trial(
            f"trial-{index}",
            "Completed",
            {"lr": f"{10 ** -(1 + index / 3):.4g}", "batch-size": ("16", "32")[index % 2]},
            0.5 + index / 20,
            12.0,
        )
        for index in range(8)
    ]
    failed = Trial("trial-<b>", "Failed", {"lr": "0.5", "batch-size": "16"})
    return Result("kennel-tuning", VALIDATION_ACCURACY.name, direction, [*trials, failed])


def test_the_best_is_the_greatest_or_the_least() -> None:
    assert a_result().ranked[0].name == "trial-7"
    assert a_result("Minimize").ranked[0].name == "trial-0"


def test_importances_are_shares_with_the_cause_first() -> None:
    found = importances(a_result())
    assert max(found, key=lambda name: found[name]) == "lr"
    assert sum(found.values()) == pytest.approx(1)
    few = Result("t", "m", "Maximize", a_result().trials[:3])
    assert importances(few) == {}


class Reader(HTMLParser):
    """Collects what a page refers to, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [str(value) for name, value in attrs if name in ("src", "href")]


def test_the_page_is_whole_in_itself() -> None:
    result = a_result()
    text = page(result, importances(result))
    reader = Reader()
    reader.feed(text)
    assert reader.outside == []
    assert "script" not in reader.tags
    assert reader.tags.count("polyline") == 8
    assert reader.tags.count("tr") == 10
    assert "trial-&lt;b&gt;" in text
    assert re.search(
        r'<tr class="best"><td class="number">1</td><td class="number">0.85</td>', text
    )


def test_a_page_of_one_trial_is_drawn_too() -> None:
    one = Result("t", "validation:accuracy", "Minimize", a_result().trials[:1])
    assert "Too few trials to say" in page(one, {})


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(UserError, match="There is nothing to search"):
        tuning.check(Search([], VALIDATION_ACCURACY))
