import os
import subprocess
import sys
from pathlib import Path

from opt_ml import ROOT

PROGRAM = """
import os
import sys
from container import starting_anew

def change(name):
    return lambda environment: None if name in environment else {**environment, name: "set"}

print("started", flush=True)
starting_anew.ensure(change("FIRST"), lambda environment: None, change("SECOND"))
print(os.getpid(), os.environ["FIRST"], os.environ["SECOND"], *sys.argv[1:])
"""


def test_a_program_starts_anew_once_with_all_that_was_asked_for(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, program, "an argument", "--flag"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == [
        "started",
        "started",
        f"{process.pid} set set an argument --flag",
    ]
