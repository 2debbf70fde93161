"""What a rule on a profile is."""

from dataclasses import dataclass

from container.debugging.profiler.profile import Profile
from container.debugging.rules.rule import Declared, Finding


@dataclass(frozen=True)
class ProfileRule(Declared):
    """A rule on a profile, with its parameters."""

    def check(self, profile: Profile) -> Finding | None:
        """The first sign of the illness. Raises MissingError."""
        raise NotImplementedError
