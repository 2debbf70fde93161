"""`make bench`: run every comparison and print one table. `--quick` proves that they still run."""

import argparse
import tempfile
from datetime import date
from pathlib import Path

from benchmarks import frozen_backbone, serving
from benchmarks.table import as_markdown, describe_machine

BENCHMARKS = {
    "Training the head on a frozen backbone": frozen_backbone.run,
    "Serving ResNet-18 on a CPU": serving.run,
}
RESULTS = Path(__file__).resolve().parent / "results.md"


def main() -> None:
    """Run what was asked for; a full run also replaces the results that the README shows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images and seconds; no results")
    options = parser.parse_args()
    tables = [f"Measured on {date.today()}: {describe_machine()}"]
    for title, run in BENCHMARKS.items():
        with tempfile.TemporaryDirectory(prefix="kennel-bench-") as scratch:
            tables.append(as_markdown(title, run(Path(scratch), quick=options.quick)))
        print(f"\n{tables[-1]}", flush=True)
    if not options.quick:
        RESULTS.write_text("\n\n".join(tables) + "\n")
        print(f"\nWritten to {RESULTS}; make docs copies it into the README.")


if __name__ == "__main__":
    main()
