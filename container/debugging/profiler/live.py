"""The rules on a profile, beside the training that is profiled."""

from pathlib import Path

from container.debugging.profiler.profile import ProfileReader
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
        self._rules = [rule for rule in from_text(rules) if isinstance(rule, ProfileRule)]
        self._fired: list[Result] = []

    def look(self) -> None:
        """Evaluate the rules that have not fired yet."""
        profile = self._reader.read()
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
    profile = ProfileReader(directory, since).read()
    found = []
    for rule in rules:
        result = said.get(rule.name) or evaluate(rule, profile)
        if result.fired and rule.name not in said:
            announce(rule, result)
        found.append(result)
    return found
