"""Rules on how busy processors, disks and GPUs are. Those that need a GPU say so without one."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from container.debugging.profiler.profile import Profile
from container.debugging.profiler.profile_rule import ProfileRule
from container.debugging.records import Array
from container.debugging.rules.rule import Finding, MissingError, parameter


def _gpus(profile: Profile, dimension: str = "GPUUtilization") -> dict[str, Array]:
    found = profile.samples(dimension)
    if not found:
        raise MissingError("there is no GPU, or it was not sampled")
    return found


def _together(series: dict[str, Array]) -> Array:
    """A row for each name, cut to the shortest: one process takes all samples at once."""
    length = min(len(values) for values in series.values())
    rows: Array = np.array([values[:length] for values in series.values()])
    return rows


def _percentiles(values: Array) -> dict[str, float]:
    found = np.percentile(values, (50, 95, 99))
    names = ("p50", "p95", "p99")
    return {name: round(float(value), 2) for name, value in zip(names, found, strict=True)} | {
        "max": round(float(values.max()), 2)
    }


@dataclass(frozen=True)
class CPUBottleneck(ProfileRule):
    """The GPU waits for the processor."""

    illness: ClassVar = "GPUs are idle while a core is busy: the processor holds training back."
    advice: ClassVar = (
        "Take an instance with more cores for each GPU, store images no larger than needed, or "
        "train on a frozen backbone (trainable=head), whose features are computed once."
    )

    threshold: float = parameter(50.0, "percent of samples that must show it")
    gpu_threshold: float = parameter(10.0, "a GPU below this is idle")
    cpu_threshold: float = parameter(90.0, "a core above this is busy")
    patience: int = parameter(1000, "samples that must be there")

    def check(self, profile: Profile) -> Finding | None:
        """The share of samples in which both are so."""
        return _share_of_idle_gpu(self, profile, "CPUUtilization", self.cpu_threshold)


@dataclass(frozen=True)
class IOBottleneck(ProfileRule):
    """Training waits for the disk."""

    illness: ClassVar = "Training waits for the disk."
    advice: ClassVar = (
        "Use a faster volume, or fast file mode; fewer and larger files (a .tar) read faster."
    )

    threshold: float = parameter(50.0, "percent of samples that must show it")
    gpu_threshold: float = parameter(10.0, "a GPU below this is idle; without GPUs not looked at")
    io_threshold: float = parameter(50.0, "a core that waits for more percent of the time")
    patience: int = parameter(1000, "samples that must be there")

    def check(self, profile: Profile) -> Finding | None:
        """The share of samples in which both are so; on a CPU the waiting alone."""
        return _share_of_idle_gpu(
            self, profile, "I/OWaitPercentage", self.io_threshold, on_cpu=True
        )


def _share_of_idle_gpu(
    rule: Any, profile: Profile, dimension: str, limit: float, *, on_cpu: bool = False
) -> Finding | None:
    cores = profile.samples(dimension)
    if not cores:
        raise MissingError("the machine was not sampled")
    busy = _together(cores).max(axis=0) > limit
    gpus = profile.samples("GPUUtilization")
    if gpus or not on_cpu:
        idle = _together(_gpus(profile)).min(axis=0) < rule.gpu_threshold
        length = min(len(busy), len(idle))
        busy = busy[:length] & idle[:length]
    share = 100 * float(busy.mean()) if len(busy) else 0.0
    if len(busy) > rule.patience and share > rule.threshold:
        return Finding(None, {"percent_of_samples": round(share, 1), "samples": len(busy)})
    return None


@dataclass(frozen=True)
class LowGPUUtilization(ProfileRule):
    """A GPU is hardly used, or now and then not at all."""

    illness: ClassVar = "A GPU is hardly used."
    advice: ClassVar = "Raise batch-size, or take a smaller instance."

    threshold_p95: float = parameter(70.0, "a 95th percentile below this is low")
    threshold_p5: float = parameter(10.0, "a 5th percentile below this means waiting")
    window: int = parameter(500, "samples looked at, the last ones")
    patience: int = parameter(1000, "samples that must be there")

    def check(self, profile: Profile) -> Finding | None:
        """Percentiles of the last window of each GPU."""
        for name, values in _gpus(profile).items():
            if len(values) <= self.patience:
                continue
            p5, p95 = np.percentile(values[-self.window :], (5, 95))
            if p95 < self.threshold_p95 or p5 < self.threshold_p5:
                evidence = {"gpu": name, "p5": float(p5), "p95": float(p95)}
                evidence |= {"mean": round(float(values.mean()), 1), "samples": len(values)}
                return Finding(None, evidence)
        return None


@dataclass(frozen=True)
class GPUMemoryIncrease(ProfileRule):
    """A GPU's memory fills up as training goes on."""

    illness: ClassVar = "A GPU's memory fills up as training goes on."
    advice: ClassVar = "Look for tensors that are kept from step to step, with their graphs."

    increase: float = parameter(5.0, "points of growth from window to window")
    patience: int = parameter(1000, "samples before the first comparison")
    window: int = parameter(10, "samples in a window")

    def check(self, profile: Profile) -> Finding | None:
        """Means of neighbouring windows."""
        for name, values in _gpus(profile, "GPUMemoryUtilization").items():
            for end in range(max(self.patience, 2 * self.window), len(values) + 1):
                now = values[end - self.window : end].mean()
                before = values[end - 2 * self.window : end - self.window].mean()
                if now - before > self.increase:
                    increase = round(float(now - before), 2)
                    return Finding(None, {"gpu": name, "increase": increase, "samples": end})
        return None


@dataclass(frozen=True)
class BatchSize(ProfileRule):
    """Neither the processor nor the GPU nor its memory is full."""

    illness: ClassVar = "Processor, GPU and GPU memory all have room: the batch is too small."
    advice: ClassVar = "Raise batch-size, and lr with its square root or in proportion."

    cpu_threshold_p95: float = parameter(70.0, "a processor below this has room")
    gpu_threshold_p95: float = parameter(70.0, "a GPU below this has room")
    gpu_memory_threshold_p95: float = parameter(70.0, "a GPU's memory below this has room")
    patience: int = parameter(1000, "samples that must be there")
    window: int = parameter(500, "samples looked at, the last ones")

    def check(self, profile: Profile) -> Finding | None:
        """The 95th percentiles of the last window."""
        gpus, memories = _gpus(profile), _gpus(profile, "GPUMemoryUtilization")
        cores = profile.samples("CPUUtilization")
        if not cores:
            raise MissingError("the processors were not sampled")
        cpu = float(np.percentile(_together(cores)[:, -self.window :].mean(axis=0), 95))
        for name, values in gpus.items():
            gpu = float(np.percentile(values[-self.window :], 95))
            memory = float(np.percentile(memories[name][-self.window :], 95))
            room = (
                cpu < self.cpu_threshold_p95
                and gpu < self.gpu_threshold_p95
                and memory < self.gpu_memory_threshold_p95
            )
            if len(values) > self.patience and room:
                evidence = {"gpu": name, "gpu_p95": gpu, "memory_p95": memory}
                return Finding(None, evidence | {"samples": len(values)})
        return None


@dataclass(frozen=True)
class LoadBalancing(ProfileRule):
    """GPUs are not used alike."""

    illness: ClassVar = "GPUs are not used alike."
    advice: ClassVar = "Give each process as many images as the others, and the same work."

    threshold: float = parameter(0.5, "Jensen-Shannon distance of two GPUs' histograms")
    patience: int = parameter(1000, "samples that must be there")

    def check(self, profile: Profile) -> Finding | None:
        """Compare each GPU with the first."""
        gpus = _gpus(profile)
        if len(gpus) < 2:
            raise MissingError("there is only one GPU")
        histograms = {
            name: np.histogram(values, bins=50, range=(0, 100))[0] / len(values)
            for name, values in gpus.items()
            if len(values) > self.patience
        }
        for first, second in zip(list(histograms), list(histograms)[1:], strict=False):
            distance = _distance(histograms[first], histograms[second])
            if distance > self.threshold:
                evidence = {"gpus": f"{first}, {second}", "distance": distance}
                return Finding(None, evidence | {"samples": len(gpus[first])})
        return None


def _distance(first: Array, second: Array) -> float:
    middle = (first + second) / 2
    parts = [
        float(np.sum(each[each > 0] * np.log2(each[each > 0] / middle[each > 0])))
        for each in (first, second)
    ]
    return round(float(np.sqrt(max(0.0, sum(parts) / 2))), 4)


@dataclass(frozen=True)
class OverallSystemUsage(ProfileRule):
    """Percentiles of everything sampled; never fires."""

    illness: ClassVar = "Never fires: it sums up how the machine was used."
    advice: ClassVar = "Nothing to do."

    def check(self, profile: Profile) -> Finding | None:
        """There is nothing to find."""
        if not profile.values:
            raise MissingError("the machine was not sampled")
        return None

    def summary(self, profile: Profile) -> dict[str, dict[str, float]]:
        """Percentiles of each dimension, over all cores or GPUs."""
        dimensions = (
            "CPUUtilization",
            "I/OWaitPercentage",
            "GPUUtilization",
            "GPUMemoryUtilization",
        )
        found = {name: profile.samples(name) for name in (*dimensions, "memory")}
        return {
            name: _percentiles(_together(series).mean(axis=0))
            for name, series in found.items()
            if series
        }
