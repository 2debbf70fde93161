"""Write the tables and the picture of docs/scale.md: `python -m docs.scale [--check]`."""

import json
import re
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from docs.architecture import ROOT
from docs.sections import Sections, main
from docs.tables import table

PAGE = Path(__file__).with_name("scale.md")
PICTURE = Path(__file__).with_name("pictures") / "scale.svg"
MEASURED = ROOT / "benchmarks/scale.json"
RESULTS = ROOT / "benchmarks/results.md"
GROWTH = PICTURE.with_name("growth.png")

BENCHMARK_CORES = 2
"""Of the machine that the results are from."""
KILOBYTES = 132
"""A photograph of the dog breeds: 1.1 GB for 8,351 of them."""
EPOCHS, VIEWS = 10, 2
CHANNELS = {"resnet18": 512, "resnet50": 2048}
S3_DOLLARS = 0.023
"""A month of a gigabyte in S3 Standard."""


@dataclass(frozen=True)
class Machine:
    """What can be rented. Prices: on demand, us-east-1, November 2026."""

    name: str
    cores: int
    """Whole cores: half as many as virtual processors."""
    memory: int
    """GiB."""
    network: float
    """Gigabytes a second that its maker names as the most."""
    dollars: float
    """An hour."""


CPU = Machine("c7i.4xlarge", 8, 32, 1.56, 0.714)


@dataclass(frozen=True)
class Training:
    """One training of a head: how much of what, on how many machines."""

    images: int
    classes: int = 133
    architecture: str = "resnet18"
    size: int = 224
    machines: int = 1

    def seconds(self, machine: Machine = CPU) -> dict[str, float]:
        """How long each stage takes. The images are parted among the machines; the head is not."""
        known = measured()
        own = self.images / self.machines
        listing = known["listing"][-1]
        work = known["decode_ms"] + known["digest_ms"]
        layers = VIEWS * known["forward_ms"][f"{self.architecture} {self.size}"]
        head = known["head_us"][f"{CHANNELS[self.architecture]} features, {self.classes} classes"]
        return {
            "copy from S3": own * KILOBYTES * 1e3 / (machine.network * 1e9),
            "list": own * listing["seconds"] / listing["images"],
            "decode": own * work / 1e3 / machine.cores,
            "frozen layers": own * layers / 1e3 / machine.cores,
            "train the head": EPOCHS * self.images * head / 1e6,
        }

    def memory(self) -> float:
        """Gigabytes that the list of images and the cache's index take on each machine."""
        known = measured()
        each = known["listing"][-1]["bytes"] + VIEWS * known["index"][-1]["bytes"]
        return self.images / self.machines * float(each) / 1e9

    def cache(self) -> float:
        """Gigabytes of features on disk, all machines together."""
        return self.images * VIEWS * CHANNELS[self.architecture] * 4 / 1e9

    def dollars(self, machine: Machine = CPU) -> float:
        """What the machines cost for as long as it takes."""
        return sum(self.seconds(machine).values()) / 3600 * machine.dollars * self.machines


PLANS = (
    Training(6_680),
    Training(10_000),
    Training(100_000),
    Training(1_000_000),
    Training(1_000_000, machines=4),
    Training(1_000_000, classes=1000, architecture="resnet50", machines=4),
    Training(100_000_000, machines=8),
    Training(100_000_000, machines=32),
    Training(100_000_000, classes=1000, architecture="resnet50", machines=8),
)


@cache
def measured() -> Any:
    """What `python -m benchmarks.scale` wrote."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def costs() -> str:
    """What one more image costs at each stage."""
    known = measured()
    rows = [
        ("decode, resize and crop a JPEG of 500 x 375 pixels", f"{known['decode_ms']:.2f} ms"),
        ("its digest, by which the cache knows it", f"{known['digest_ms']:.3f} ms"),
        *(
            (f"a view through the frozen layers of {name} pixels", f"{value:.1f} ms")
            for name, value in known["forward_ms"].items()
        ),
        *(
            (f"an epoch of the head, {name}", f"{value:.0f} µs")
            for name, value in known["head_us"].items()
        ),
        *(
            (
                f"finding it among {entry['images']:,} files",
                f"{entry['seconds'] / entry['images'] * 1e6:.0f} µs, {entry['bytes']:.0f} bytes",
            )
            for entry in known["listing"]
        ),
        *(
            (
                f"a view in the cache's index of {entry['images']:,}",
                f"{entry['seconds'] / entry['images'] * 1e6:.1f} µs, {entry['bytes']:.0f} bytes",
            )
            for entry in known["index"]
        ),
    ]
    head = f"Measured on {known['date']}: {known['machine']}"
    return f"{head}\n\n{table(('for each image, on one core', 'takes'), rows)}"


def plans() -> str:
    """Time, memory and money of some trainings, and what takes longest."""
    rows = []
    for plan in PLANS:
        seconds = plan.seconds()
        slowest = max(seconds, key=lambda stage: seconds[stage])
        rows.append(
            (
                f"{plan.images:,}",
                f"{plan.architecture}, {plan.classes} classes",
                str(plan.machines),
                _duration(sum(seconds.values())),
                f"{slowest}: {seconds[slowest] / sum(seconds.values()):.0%}",
                f"{plan.memory():.1f} of {CPU.memory} GB",
                f"{plan.cache():,.1f} GB",
                f"${plan.dollars():,.2f}",
                f"${plan.images * KILOBYTES * 1e3 / 1e9 * S3_DOLLARS:,.2f}",
            )
        )
    header = ("images", "network", "machines", "time", "slowest stage", "memory each", "cache",
              "machines cost", "S3 a month")  # fmt: skip
    return table(header, rows)


def check() -> str:
    """What the model says of a further image of a whole training, and what it costs there."""
    known = measured()
    # 15 % of the images validate, and are seen in one view.
    said = (
        known["decode_ms"]
        + known["digest_ms"]
        + (0.85 * VIEWS + 0.15) * known["forward_ms"]["resnet18 224"]
        + known["head_us"]["512 features, 10 classes"] / 1e3
    )
    whole = known["whole_ms"]
    rows = [
        (
            "ResNet-18, 10 classes, 1 epoch",
            f"{said:.1f} ms",
            f"{whole:.1f} ms",
            f"{whole / said:.2f}",
        )
    ]
    header = ("a further image, in time of one core", "the model says", "whole trainings", "ratio")
    return table(header, rows)


def again() -> str:
    """A whole training of benchmarks.md, in time on a clock, beside what the model says of it.

    Raises:
        ValueError: the results have no such row any more.
    """
    text = RESULTS.read_text(encoding="utf-8")
    found = re.search(r"resnet18, (\d+) images, 10 epochs: first run \| .*process ([\d.]+) s", text)
    if not found:
        raise ValueError(f"{RESULTS.name} has no whole training any more: change docs/scale.py")
    stages = Training(int(found[1])).seconds(replace(CPU, cores=BENCHMARK_CORES))
    said = sum(stages.values()) - stages["copy from S3"]
    return (
        f"The {int(found[1]):,} photographs of *A second run on the same images* in "
        f"[benchmarks.md](benchmarks.md) took\n{float(found[2]):.0f} s as a process on "
        f"{BENCHMARK_CORES} cores, where the model has {said:.0f} s for cores that are never idle."
    )


def growth() -> str:
    """Whole trainings at growing sizes, as `python -m benchmarks growth` measured them last."""
    text = RESULTS.read_text(encoding="utf-8")
    found = re.search(r"\*\*Training as the data grows\*\*\n\n.+\n\n((?:\|.*\n?)+)", text)
    if not found:
        return "`python -m benchmarks growth` does so; it was not run here yet."
    picture = f"![Time and memory against images](pictures/{GROWTH.name})\n\n"
    return (picture if GROWTH.exists() else "") + found[1].rstrip()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def draw() -> None:
    """The stages against the number of images on one machine, and the whole against machines."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "kennel", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    sizes = [10**power for power in range(3, 9)]
    for stage in Training(1).seconds():
        style = "--" if stage == "train the head" else "-"  # it lies upon copying
        hours = [Training(n).seconds()[stage] / 3600 for n in sizes]
        left.loglog(sizes, hours, style, label=stage)
    left.set(xlabel="images", ylabel="hours", title=f"Stages of one {CPU.name}, ResNet-18")
    left.legend(frameon=False)
    counts = [2**power for power in range(8)]
    for classes, architecture in ((133, "resnet18"), (1000, "resnet50")):
        many = [Training(10**8, classes, architecture, machines=n) for n in counts]
        hours = [sum(plan.seconds().values()) / 3600 for plan in many]
        right.loglog(counts, hours, marker="o", label=f"{architecture}, {classes} classes")
    right.set(xlabel="machines", ylabel="hours", title="100 million images")
    right.legend(frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None})


SECTIONS: Sections = {
    "costs": costs,
    "plans": plans,
    "check": check,
    "again": again,
    "growth": growth,
}

if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        draw()
    main(PAGE, SECTIONS, sys.argv[1:])
