"""`make bench`: run comparisons and print a table of each. `--quick` proves that they still run."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from benchmarks import (
    all_layers,
    frozen_backbone,
    gpu_step,
    growth,
    hooks,
    serving,
    serving_gpu,
    serving_overload,
    tuning,
)
from benchmarks.quietness import Quietness
from benchmarks.table import as_markdown, describe_machine

PEERS = ("peers", "peers50")
BENCHMARKS = {
    "frozen": ("Training the head on a frozen backbone", frozen_backbone.resnet18),
    "frozen50": ("The same with ResNet-50", frozen_backbone.resnet50),
    "accuracy": ("Accuracy behind frozen layers", frozen_backbone.accuracies),
    "processes": ("Whole processes, imports included", frozen_backbone.whole_processes),
    "again": ("A second run on the same images", frozen_backbone.second_run),
    "tuning": ("Tuning on a frozen backbone", tuning.resnet18),
    "tuning50": ("The same tuning with ResNet-50", tuning.resnet50),
    "all": ("Training more than the head on a CPU", all_layers.run),
    "growth": ("Training as the data grows", growth.run),
    "gpu": ("Training all layers on a GPU", gpu_step.run),
    "serving-gpu": ("Serving ResNet-50 on a GPU", serving_gpu.run),
    "serving": ("Serving ResNet-18 on a CPU", serving.run),
    "peers": ("Serving ResNet-18 beside other servers", serving.run_with_peers),
    "peers50": ("Serving ResNet-50 beside other servers", serving.run_with_peers50),
    "overload": ("Serving more than it can", serving_overload.run),
    "hooks": ("Watching a training", hooks.run),
}
RESULTS = Path(__file__).resolve().parent / "results.md"


def main() -> None:
    """Run what was asked for; a full run also replaces its part of what the README shows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="few images and seconds; no results")
    parser.add_argument("--peers", action="store_true", help="install other servers and run them")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; known are {', '.join(BENCHMARKS)}")
    names = options.names or [name for name in BENCHMARKS if name not in PEERS]
    names = [*names, *(PEERS if options.peers else ())]
    if options.quick and len(names) > 1:
        sys.exit(_side_by_side(names))
    for name in names:
        title, run = BENCHMARKS[name]
        quietness = Quietness()
        with tempfile.TemporaryDirectory(prefix="kennel-bench-") as scratch:
            table = as_markdown(title, run(Path(scratch), quick=options.quick))
        print(f"\n{table}\n\n{quietness}", flush=True)
        if not options.quick:
            _keep(title, table, f"Measured on {date.today()}: {describe_machine()}")
    if not options.quick:
        print(f"\nWritten to {RESULTS}; make docs copies it into the documents.")


def _side_by_side(names: list[str]) -> int:
    """Run each as a process, two at a time: whether they work is asked, not how fast they are."""

    def run(name: str) -> tuple[str, int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--quick", name],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return name, done.returncode, done.stdout

    failed = []
    with ThreadPoolExecutor(2) as pool:
        for name, code, output in pool.map(run, names):
            print(output if code == 0 else f"{output}\n{name} failed", flush=True)
            failed += [name] if code else []
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _keep(title: str, table: str, stamp: str) -> None:
    """Replace one table of the results; the others keep what they measured, when and where."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    found = re.finditer(r"\*\*(.+)\*\*\n\n.+\n\n(?:\|.*\n?)+", text)
    tables = {each[1]: each[0].strip() for each in found}
    heading, _, rows = table.partition("\n\n")
    tables[title] = f"{heading}\n\n{stamp}\n\n{rows}"
    ordered = [tables[each] for each, _ in BENCHMARKS.values() if each in tables]
    RESULTS.write_text("\n\n".join(ordered) + "\n")


if __name__ == "__main__":
    main()
