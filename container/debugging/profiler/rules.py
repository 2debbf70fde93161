"""Kennel's rules on a profile, under AWS's names and with its defaults."""

from collections.abc import Iterable

from container.debugging.profiler.profile import Profile
from container.debugging.profiler.profile_rule import ProfileRule
from container.debugging.profiler.steps import (
    Dataloader,
    MaxInitializationTime,
    OverallFrameworkMetrics,
    StepOutlier,
)
from container.debugging.profiler.utilisation import (
    BatchSize,
    CPUBottleneck,
    GPUMemoryIncrease,
    IOBottleneck,
    LoadBalancing,
    LowGPUUtilization,
    OverallSystemUsage,
)
from container.debugging.rules.rule import Result, evaluate

PROFILE_RULES: tuple[type[ProfileRule], ...] = (
    CPUBottleneck,
    IOBottleneck,
    LowGPUUtilization,
    GPUMemoryIncrease,
    BatchSize,
    LoadBalancing,
    Dataloader,
    MaxInitializationTime,
    StepOutlier,
    OverallSystemUsage,
    OverallFrameworkMetrics,
)


def look(profile: Profile, rules: Iterable[ProfileRule] | None = None) -> list[Result]:
    """What every rule, or those given, finds in a profile."""
    chosen = [kind() for kind in PROFILE_RULES] if rules is None else rules
    return [evaluate(rule, profile) for rule in chosen]
