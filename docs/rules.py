"""Write the tables of docs/debugging.md: `python -m docs.rules [--check]`."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from container.debugging.presets import PRESETS
from container.debugging.profiler.rules import PROFILE_RULES
from container.debugging.rules import RULES
from container.debugging.rules.rule import Declared
from docs.sections import fill, main

PAGE = Path(__file__).with_name("debugging.md")


def presets() -> str:
    """Every collection of every preset."""
    lines = [
        "| debug | collection | saved as | training steps | evaluation steps |",
        "|---|---|---|---|---|",
    ]
    for preset, collections in PRESETS.items():
        for name, parameters in collections.items():
            if preset == "full" and name in PRESETS["standard"]:
                continue
            form = parameters.get("reductions", "whole").replace(",", ", ")
            steps = f"every {parameters['train.save_interval']}"
            if "train.save_steps" in parameters:
                steps = f"the first 10, then {steps}"
            every = int(parameters["eval.save_interval"])
            evaluation = "the first" if every > 1000 else f"every {every}" if every > 1 else "every"
            lines.append(f"| `{preset}` | `{name}` | {form} | {steps} | {evaluation} |")
    return "\n".join(lines)


def rules() -> str:
    """Every rule on tensors."""
    return "\n".join(_rule(kind, _needs(kind)) for kind in RULES)


def profile_rules() -> str:
    """Every rule on a profile."""
    return "\n".join(_rule(kind, "") for kind in PROFILE_RULES)


def _needs(kind: Any) -> str:
    collections = ", ".join(f"`{name}`".replace("|", "` or `") for name in kind.collections)
    named = "" if kind.by_default else " Runs when it is named, or with `rules=all`."
    return f"Needs {collections}.{named}"


def _rule(kind: type[Declared], needs: str) -> str:
    lines = [f"### {kind.__name__}", "", f"{kind.illness} {needs}".strip(), ""]
    parameters = dataclasses.fields(kind)
    if parameters:
        lines += ["| parameter | default | meaning |", "|---|---|---|"]
        for each in parameters:
            default = "" if each.default in ("", float("inf")) else str(each.default)
            shown = f"`{default}`".replace("|", "\\|") if default else "none"
            lines.append(f"| `{each.name}` | {shown} | {each.metadata['meaning']} |")
        lines.append("")
    return "\n".join([*lines, f"*Try:* {kind.advice}", ""])


SECTIONS = {"presets": presets, "rules": rules, "profile-rules": profile_rules}


def generate(text: str) -> str:
    """The page with every generated section made anew."""
    return fill(text, SECTIONS)


if __name__ == "__main__":
    main(PAGE, SECTIONS, sys.argv[1:])
