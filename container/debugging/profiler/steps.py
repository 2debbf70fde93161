"""Rules on steps: what feeds them, when they begin, how long they take."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from container.debugging.profiler.profile import Profile
from container.debugging.profiler.profile_rule import ProfileRule
from container.debugging.rules.rule import Finding, MissingError, parameter


@dataclass(frozen=True)
class Dataloader(ProfileRule):
    """Too few, or far too many, workers prepare images."""

    illness: ClassVar = "Too few, or far too many, workers prepare images for the cores there are."
    advice: ClassVar = "Use about as many workers as cores."

    min_threshold: float = parameter(70.0, "percent of the cores below which workers are too few")
    max_threshold: float = parameter(200.0, "percent above which they are too many")

    def check(self, profile: Profile) -> Finding | None:
        """Workers against cores. Kennel prepares images with as many threads as cores."""
        if not profile.workers or not profile.cores:
            raise MissingError("no workers prepare images")
        percent = 100 * profile.workers / profile.cores
        if not self.min_threshold <= percent <= self.max_threshold:
            return Finding(0, {"workers": profile.workers, "cores": profile.cores})
        return None


@dataclass(frozen=True)
class MaxInitializationTime(ProfileRule):
    """The first step comes late."""

    illness: ClassVar = "It takes long until the first step."
    advice: ClassVar = (
        "Store smaller images, or several in a .tar; look at the data channel's mode."
    )

    threshold: float = parameter(20.0, "minutes until the first step")

    def check(self, profile: Profile) -> Finding | None:
        """From the start of the job to its first step, or for as long as there has been none."""
        seconds = profile.first_step_after
        if seconds is None and profile.started and profile.last_sample:
            seconds = profile.last_sample - profile.started
        if seconds is None:
            raise MissingError("no step was timed")
        minutes = seconds / 60
        return Finding(0, {"minutes": round(minutes, 2)}) if minutes > self.threshold else None


@dataclass(frozen=True)
class StepOutlier(ProfileRule):
    """Some steps take far longer than the others."""

    illness: ClassVar = "Some steps take far longer than the others."
    advice: ClassVar = (
        "Look at what happens in those steps: images of unusual size, saved tensors, other "
        "programs on the machine."
    )

    stddev: float = parameter(3.0, "standard deviations above the mean from which on it counts")
    n_outliers: int = parameter(10, "outliers that are forgiven")

    def check(self, profile: Profile) -> Finding | None:
        """Among more than a hundred steps."""
        seconds = profile.step_seconds
        if not len(seconds):
            raise MissingError("no step was timed")
        outliers = np.flatnonzero(seconds > seconds.mean() + self.stddev * seconds.std())
        if len(seconds) > 100 and len(outliers) > self.n_outliers:
            slowest = round(float(seconds.max()), 4)
            mean = round(float(seconds.mean()), 4)
            # On a GPU only some steps are measured, of a resumed training perhaps not the first.
            first = profile.numbers[int(outliers[0])]
            return Finding(first, {"outliers": len(outliers), "mean": mean, "max": slowest})
        return None


@dataclass(frozen=True)
class OverallFrameworkMetrics(ProfileRule):
    """Shares of the phases of training; never fires."""

    illness: ClassVar = "Never fires: it sums up where the time went."
    advice: ClassVar = "Nothing to do."

    def check(self, profile: Profile) -> Finding | None:
        """There is nothing to find."""
        if not profile.totals:
            raise MissingError("no step was timed")
        return None
