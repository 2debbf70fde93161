"""Which rules look at a training: those that can see what they need, or those that were named."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from container.debugging.catalog import AnyRule, create
from container.debugging.profiler.profile_rule import ProfileRule
from container.debugging.profiler.rules import PROFILE_RULES
from container.debugging.rules import RULES
from container.debugging.rules.course import StalledTraining
from container.debugging.rules.rule import Rule
from container.errors import UserError


def select(text: str, collections: Sequence[str], *, pretrained: bool) -> list[Rule]:
    """The rules on tensors that the hyperparameter `rules` chooses.

    It is `default`, `all`, `off`, or names with commas, of rules on the profile too. A name may
    carry parameters: `Overfit:patience=3:ratio_threshold=0.5`.

    Raises:
        UserError: there is no such rule or parameter.
    """
    if text == "off":
        return []
    if text not in ("all", "default"):
        return [_live(rule) for rule in _named(text) if isinstance(rule, Rule)]
    every = [_live(kind()) for kind in RULES]
    if text == "all":
        return every
    chosen = [rule for rule in every if rule.by_default and _fed(rule.collections, collections)]
    # Pretrained weights are uneven from layer to layer, and none the worse for it.
    return [rule for rule in chosen if not (pretrained and rule.name == "PoorWeightInitialization")]


def select_profile_rules(text: str) -> list[ProfileRule]:
    """The rules on the profile: all, unless `rules` is `off` or names some. Raises UserError."""
    if text == "off":
        return []
    named = [] if text in ("default", "all") else _named(text)
    return [rule for rule in named if isinstance(rule, ProfileRule)] or [
        kind() for kind in PROFILE_RULES
    ]


def as_text(rules: Iterable[AnyRule]) -> str:
    """The rules for another process, as JSON."""
    return json.dumps([[rule.name, {k: str(v) for k, v in vars(rule).items()}] for rule in rules])


def from_text(text: str) -> list[AnyRule]:
    """What `as_text` was given."""
    return [create(name, parameters) for name, parameters in json.loads(text)]


def _named(text: str) -> list[AnyRule]:
    return [_parse(part.strip()) for part in text.split(",") if part.strip()]


def _parse(text: str) -> AnyRule:
    name, *settings = text.split(":")
    parameters: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"In rules, {setting!r} must be a parameter, as in patience=3.")
        parameters[key] = value
    return create(name, parameters)


def _live(rule: Rule) -> Rule:
    """Beside a training a rule can see that it stands still now."""
    return replace(rule, live=True) if isinstance(rule, StalledTraining) else rule


def _fed(needed: Sequence[str], saved: Sequence[str]) -> bool:
    return all(any(each in saved for each in name.split("|")) for name in needed)
