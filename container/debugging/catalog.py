"""Every rule by its name: those on tensors and those on a profile."""

import difflib
from collections.abc import Mapping

from container.debugging.profiler.profile_rule import ProfileRule
from container.debugging.profiler.rules import PROFILE_RULES
from container.debugging.rules import RULES
from container.debugging.rules.rule import Rule, with_parameters
from container.errors import UserError

AnyRule = Rule | ProfileRule


def find(name: str) -> type[AnyRule]:
    """The rule of a name, as AWS writes it or in snake_case. Raises UserError."""
    wanted = name.replace("_", "").replace("-", "").lower().removesuffix("rule")
    known: dict[str, type[AnyRule]] = {kind.__name__.lower(): kind for kind in RULES} | {
        kind.__name__.lower(): kind for kind in PROFILE_RULES
    }
    if wanted in known:
        return known[wanted]
    nearest = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean {known[nearest[0]].__name__!r}?" if nearest else "see --help."
    raise UserError(f"There is no rule {name!r}; {hint}")


def create(name: str, parameters: Mapping[str, str]) -> AnyRule:
    """A rule by its name, with some parameters set from text. Raises UserError."""
    return with_parameters(find(name), parameters)
