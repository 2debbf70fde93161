"""Optuna behind the API's words: ranges, strategies, early stopping, warm start."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

Space = dict[str, BaseDistribution]

AUTO_LOGARITHMIC = 100.0
"""With `Auto`, a range whose bounds differ by this factor is searched on a logarithmic scale."""


def space(parameter_ranges: Mapping[str, Any]) -> Space:
    """The request's `ParameterRanges` as distributions."""
    found: Space = {}
    for entry in parameter_ranges.get("CategoricalParameterRanges", ()):
        found[entry["Name"]] = CategoricalDistribution(entry["Values"])
    for entry in parameter_ranges.get("IntegerParameterRanges", ()):
        low, high = int(entry["MinValue"]), int(entry["MaxValue"])
        found[entry["Name"]] = IntDistribution(low, high, log=_is_logarithmic(entry, low, high))
    for entry in parameter_ranges.get("ContinuousParameterRanges", ()):
        floor, top = float(entry["MinValue"]), float(entry["MaxValue"])
        found[entry["Name"]] = FloatDistribution(floor, top, log=_is_logarithmic(entry, floor, top))
    return found


def _is_logarithmic(entry: Mapping[str, Any], low: float, high: float) -> bool:
    scaling = entry.get("ScalingType", "Auto")
    if scaling == "Auto":
        return low > 0 and high / low >= AUTO_LOGARITHMIC
    return bool(scaling == "Logarithmic")


def study(config: Mapping[str, Any]) -> optuna.Study:
    """The search that a `HyperParameterTuningJobConfig` asks for."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = optuna.create_study(
        direction=config["HyperParameterTuningJobObjective"]["Type"].lower(),
        sampler=_sampler(config),
        pruner=_pruner(config),
    )
    if config["Strategy"] == "Grid":
        for combination in _grid(config):
            found.enqueue_trial(combination)
    return found


def _grid(config: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every combination of the listed values."""
    lists = config["ParameterRanges"].get("CategoricalParameterRanges", ())
    names = [entry["Name"] for entry in lists]
    found = itertools.product(*(entry["Values"] for entry in lists))
    return [dict(zip(names, values, strict=True)) for values in found]


def _sampler(config: Mapping[str, Any]) -> BaseSampler:
    seed = config.get("RandomSeed", 0)
    strategy = config["Strategy"]
    if strategy in ("Random", "Grid"):
        return RandomSampler(seed)
    jobs = config["ResourceLimits"].get("MaxNumberOfTrainingJobs", 10)
    # A few trials at random first, then what they taught; running trials count as bad ones,
    # so that trials side by side do not all try the same.
    return TPESampler(seed=seed, n_startup_trials=max(3, min(10, jobs // 3)), constant_liar=True)


def _pruner(config: Mapping[str, Any]) -> BasePruner:
    if config["Strategy"] == "Hyperband":
        limits = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
        return HyperbandPruner(limits.get("MinResource", 1), limits.get("MaxResource", "auto"))
    if config.get("TrainingJobEarlyStoppingType") == "Auto":
        return MedianPruner(n_startup_trials=3, n_warmup_steps=2)
    return NopPruner()


def combinations(config: Mapping[str, Any]) -> int:
    """How many trials a grid has."""
    return len(_grid(config))


def learn(
    search: optuna.Study, known: Space, trials: Iterable[tuple[Mapping[str, str], float]]
) -> int:
    """Warm start: what earlier trials measured, where this search has the same hyperparameters."""
    learned = 0
    for tuned, value in trials:
        params = {
            name: inside
            for name, distribution in known.items()
            if name in tuned and (inside := _inside(distribution, tuned[name])) is not None
        }
        if params:
            chosen = {name: known[name] for name in params}
            search.add_trial(
                optuna.trial.create_trial(params=params, distributions=chosen, value=value)
            )
            learned += 1
    return learned


def _inside(distribution: BaseDistribution, text: str) -> Any:
    """The value as Optuna holds it, or None where it is outside the range."""
    if isinstance(distribution, CategoricalDistribution):
        return text if text in distribution.choices else None
    if isinstance(distribution, IntDistribution | FloatDistribution):
        number = float(text)
        if distribution.low <= number <= distribution.high:
            return int(number) if isinstance(distribution, IntDistribution) else number
    return None
