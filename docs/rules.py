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

RUNS = {
    "VanishingGradient": "40 layers of sigmoids",
    "ExplodingTensor": "a learning rate of 1000",
    "Overfit": "20 images, no augmentation, labels that cannot be known; and as a whole job",
    "Overtraining": "25 epochs on 64 easy images",
    "LossNotDecreasing": "a learning rate of 1e-12; and one of 20, under which the loss rises",
    "PoorWeightInitialization": "each layer makes its input three times as large",
    "DeadRelu": "biases of -100 before the ReLU",
    "WeightUpdateRatio": "a learning rate of 1000; and one of 1e-10",
    "TensorVariance": "a head that starts with all weights alike",
    "UnchangedTensor": "an optimizer that was never given the head",
    "AllZero": "features multiplied by zero",
    "ClassImbalance": "a class with 1 of 15 images; and a class that looks like another",
    "Confusion": "a third of two classes' labels swapped",
    "CheckInputImages": "images from 0 to 255, not normalised",
    "StalledTraining": "a step that pauses, with a threshold of a second",
    "CPUBottleneck": "recorded: cores at 99 %, GPUs at 3 %",
    "IOBottleneck": "recorded: cores that wait 80 % of the time, GPUs at 3 %",
    "LowGPUUtilization": "recorded: GPUs at 14 %",
    "GPUMemoryIncrease": "recorded: a GPU's memory grows by 6 points",
    "BatchSize": "recorded: GPUs at 14 %, their memory at 10 %, processors at 50 %",
    "LoadBalancing": "recorded: two GPUs, at 95 and 75 %",
    "Dataloader": "recorded: one worker on four cores",
    "MaxInitializationTime": "recorded: a first step after 25 minutes, and none after ten",
    "StepOutlier": "recorded: one step in forty takes twenty times as long",
    "OverallSystemUsage": "never fires",
    "OverallFrameworkMetrics": "never fires",
}
"""What each rule is proven on: a training that has its illness, or a profile as files."""

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


def overview() -> str:
    """A line for each rule: what it says, with what defaults, and what makes it fire."""
    lines = ["| rule | says | parameters | proven by |", "|---|---|---|---|"]
    for kind in (*RULES, *PROFILE_RULES):
        link = f"[{kind.__name__}](#{kind.__name__.lower()})"
        settings = ", ".join(f"`{each.name}` {_default(each)}" for each in dataclasses.fields(kind))
        lines.append(f"| {link} | {kind.illness} | {settings} | {RUNS[kind.__name__]} |")
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


def _default(each: "dataclasses.Field[Any]") -> str:
    default = "" if each.default in ("", float("inf")) else str(each.default)
    return f"`{default}`".replace("|", "\\|") if default else "none"


def _rule(kind: type[Declared], needs: str) -> str:
    lines = [f"### {kind.__name__}", "", f"{kind.illness} {needs}".strip(), ""]
    parameters = dataclasses.fields(kind)
    if parameters:
        lines += ["| parameter | default | meaning |", "|---|---|---|"]
        for each in parameters:
            lines.append(f"| `{each.name}` | {_default(each)} | {each.metadata['meaning']} |")
        lines.append("")
    return "\n".join([*lines, f"*Try:* {kind.advice}", ""])


SECTIONS = {
    "presets": presets,
    "overview": overview,
    "rules": rules,
    "profile-rules": profile_rules,
}


def generate(text: str) -> str:
    """The page with every generated section made anew."""
    return fill(text, SECTIONS)


if __name__ == "__main__":
    main(PAGE, SECTIONS, sys.argv[1:])
