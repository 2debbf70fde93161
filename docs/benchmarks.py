"""Write the tables of docs/benchmarks.md: `python -m docs.benchmarks [--check]`."""

import re
import sys
from pathlib import Path

from docs.architecture import ROOT
from docs.sections import Sections, main

PAGE = Path(__file__).with_name("benchmarks.md")
RESULTS = ROOT / "benchmarks/results.md"

FEW = (
    r"resnet18, 256 images, 3 epochs: Kennel, .*loop against loop",
    r"resnet18, 256 images, 10 epochs: Kennel, .*loop against loop",
    r"resnet18, 1000 images, 10 epochs, whole processes: Kennel",
    r"resnet50, 256 images, 3 epochs: Kennel, .*loop against loop",
    r"resnet18, 64 classes, 512 images, 3 epochs: starter loop",
    r"resnet18, 64 classes, 512 images, 3 epochs: Kennel, .*",
    r"resnet18, 6680 images, 10 epochs: second run, loop against loop",
    r"resnet18, 512 images, 3 epochs: Kennel, trainable=all",
    r"resnet18, 512 images, 3 epochs: Kennel, trainable=all, progressive",
    r"resnet18, 512 images, 3 epochs: Kennel, trainable=layer4",
    r"resnet18, 1000 images, 10 epochs: 16 trials by launch.py tune, nothing computed before",
    r"plain Flask, 2 workers of torch, 16 clients",
    r"torchserve .*, 16 clients",
    r"sagemaker-pytorch-inference .*, 16 clients",
    r"bentoml .*, 16 clients",
    r"Kennel, float32, 16 clients",
    r"Kennel, bfloat16, 16 clients",
    r"Kennel, int8, 16 clients",
    r"debug=standard",
)
"""What the README shows: the last row of the results that each of these describes."""


def all_tables() -> str:
    """What `make bench` measured last, each table by itself."""
    return RESULTS.read_text(encoding="utf-8").rstrip()


def few_rows() -> str:
    """Where they were measured, and the rows that matter most.

    Raises:
        ValueError: the results have no such row any more, and FEW should name another.
    """
    machine, machines = "", {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("Measured on "):
            machine = line.partition(": ")[2]
        elif line.startswith("| "):
            machines[line] = machine
    chosen = []
    for described in FEW:
        found = [row for row in machines if re.match(rf"\| {described} \|", row)]
        if not found:
            raise ValueError(f"{RESULTS.name} has no row {described!r}: change docs/benchmarks.py")
        chosen.append(found[-1])
    places = dict.fromkeys(machines[row] for row in chosen)
    return "\n".join([*places, "", "| | measured | ratio |", "| --- | --- | --- |", *chosen])


SECTIONS: Sections = {"benchmarks": all_tables}

if __name__ == "__main__":
    main(PAGE, SECTIONS, sys.argv[1:])
