"""Which rules watch a training: those that can see what they need, or those that were named."""

import json
from collections.abc import Iterable, Sequence

from container.debugging.rules import RULES, create
from container.debugging.rules.course import StalledTraining
from container.debugging.rules.rule import Rule
from container.errors import UserError


def select(text: str, collections: Sequence[str], *, pretrained: bool) -> list[Rule]:
    """The rules of the hyperparameter `rules`: `default`, `all`, `off`, or names with commas.

    A name may carry parameters: `Overfit:patience=3:ratio_threshold=0.5`.

    Raises:
        UserError: there is no such rule or parameter.
    """
    if text == "off":
        return []
    if text == "all":
        return [kind() for kind in RULES]
    if text != "default":
        return [_parse(part.strip()) for part in text.split(",") if part.strip()]
    able = [kind for kind in RULES if kind.by_default and _fed(kind.collections, collections)]
    chosen = [StalledTraining(live=True) if kind is StalledTraining else kind() for kind in able]
    # Pretrained weights are uneven from layer to layer, and none the worse for it.
    return [rule for rule in chosen if not (pretrained and rule.name == "PoorWeightInitialization")]


def as_text(rules: Iterable[Rule]) -> str:
    """The rules for another process, as JSON."""
    return json.dumps([[rule.name, {k: str(v) for k, v in vars(rule).items()}] for rule in rules])


def from_text(text: str) -> list[Rule]:
    """What `as_text` was given."""
    return [create(name, parameters) for name, parameters in json.loads(text)]


def _parse(text: str) -> Rule:
    name, *settings = text.split(":")
    parameters: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"In rules, {setting!r} must be a parameter, as in patience=3.")
        parameters[key] = value
    return create(name, parameters)


def _fed(needed: Sequence[str], saved: Sequence[str]) -> bool:
    return all(any(each in saved for each in name.split("|")) for name in needed)
