"""The rules on a profile, beside the training that is profiled."""

from pathlib import Path

from container.debugging.profiler.profile import Profile, ProfileReader
from container.debugging.profiler.profile_rule import ProfileRule
from container.debugging.results import Result, announce, read_results, write_results
from container.debugging.rules.rule import evaluate
from container.debugging.selection import from_text

FIRED_FILE = "fired.jsonl"


class LiveRules:
    """Looks at what is new in a profile, and says at once what fires."""

    def __init__(self, directory: Path, rules: str, *, since: float) -> None:
        self._path = directory / FIRED_FILE
        self._reader = ProfileReader(directory, since)
        self._since = since
        self._rules = [rule for rule in from_text(rules) if isinstance(rule, ProfileRule)]
        self._fired: list[Result] = []

    def look(self) -> None:
        """Evaluate the rules that have not fired yet."""
        profile = _begun(self._reader.read(), self._since)
        for rule in list(self._rules):
            result = evaluate(rule, profile)
            if result.fired:
                announce(rule, result)
                self._rules.remove(rule)
                self._fired.append(result)
                write_results(self._path, self._fired)


def last_look(directory: Path, rules: list[ProfileRule], *, since: float) -> list[Result]:
    """What all the rules have found when training is over; says what has not been said yet."""
    said = {result.rule: result for result in read_results(directory / FIRED_FILE)}
    profile = _begun(ProfileReader(directory, since).read(), since)
    found = []
    for rule in rules:
        result = said.get(rule.name) or evaluate(rule, profile)
        if result.fired and rule.name not in said:
            announce(rule, result)
        found.append(result)
    return found


def _begun(profile: Profile, since: float) -> Profile:
    """The profile of a job that has been sampled since it began.

    The file that tells when it began is written after all images are prepared.
    """
    if profile.started is None and since:
        profile.started = since
    return profile
