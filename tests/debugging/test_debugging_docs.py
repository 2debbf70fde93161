"""docs/debugging.md says what the code does."""

import re

from container.debugging.profiler.rules import PROFILE_RULES
from container.debugging.rules import RULES
from docs.rules import PAGE, generate

TEXT = PAGE.read_text()


def test_generated_parts_are_up_to_date() -> None:
    assert generate(TEXT) == TEXT, "run python -m docs.rules"


def test_every_rule_is_documented_in_full() -> None:
    for kind in (*RULES, *PROFILE_RULES):
        assert f"### {kind.__name__}\n" in TEXT
        assert kind.illness.endswith(".")
        assert re.search(r"[.!]$", kind.advice)
