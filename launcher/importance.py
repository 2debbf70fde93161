"""Which hyperparameters mattered, judged from the trials of a tuning."""

import sys
import warnings

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from launcher.tuning import Result

_without_sklearn = "sklearn" not in sys.modules
if _without_sklearn:
    # Optuna takes it for another evaluator than this one, if it can, and that takes seconds.
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # makes the import fail
try:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
finally:
    if _without_sklearn:
        del sys.modules["sklearn"]

FEWEST_TRIALS = 6
"""Fewer say nothing."""
LOGARITHMIC = 100.0


def importances(result: Result) -> dict[str, float]:
    """A share for each hyperparameter, greatest first; empty where the trials are too few."""
    ranked = result.ranked
    names = {name for trial in ranked for name in trial.tuned}
    if len(ranked) < FEWEST_TRIALS or len(names) < 2:
        return {}
    space = {name: scale([trial.tuned.get(name, "") for trial in ranked]) for name in names}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if result.direction == "Maximize" else "minimize"
    )
    for trial in ranked:
        params = {
            name: float(text) if isinstance(space[name], FloatDistribution) else text
            for name, text in trial.tuned.items()
        }
        distributions = {name: space[name] for name in params}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=trial.objective
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def scale(texts: list[str]) -> BaseDistribution:
    """Numbers between the least and the greatest; words as they are."""
    numbers = as_numbers(texts)
    if numbers is None or min(numbers) == max(numbers):
        return CategoricalDistribution(sorted(set(texts)))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOGARITHMIC)


def as_numbers(texts: list[str]) -> list[float] | None:
    """All as numbers, or None where one is a word."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None
