import subprocess
import sys

from opt_ml import ROOT

FAULTS = """
import resource
import torch
from container.training.allocation import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16, 1024, 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
assert keep_freed_memory()
faults()
print(given_back, faults())
"""


def test_a_step_finds_the_memory_that_the_one_before_it_freed() -> None:
    command = [sys.executable, "-c", FAULTS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    given_back, kept = map(int, result.stdout.split())
    assert kept < given_back / 10
