"""Kennel's rules on a profile, under AWS's names and with its defaults."""

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
