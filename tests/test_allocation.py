import re
import subprocess
import sys
from pathlib import Path

import pytest
from opt_ml import ROOT

from container import allocation

FAULTS = """
import resource
import torch
from container.allocation import keep_freed_memory

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


LARGE_PAGES = """
from pathlib import Path
import torch
from container.allocation import keep_freed_memory

assert keep_freed_memory()
kept = [torch.ones(1024, 128) for _ in range(256)]
print(Path("/proc/self/smaps_rollup").read_text())
"""


def test_what_is_kept_lies_in_large_pages_small_tensors_too() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("this kernel gives no large pages")
    command = [sys.executable, "-c", LARGE_PAGES]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = re.search(r"AnonHugePages:\s+(\d+) kB", result.stdout)
    assert found
    # Of 128 MB; what memory is in pieces gives none.
    assert int(found[1]) > 32 * 1024


LITTLE_ROOM = """
import mmap
import os
import resource
import torch
from container.allocation import keep_freed_memory

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
half = os.sysconf("SC_PHYS_PAGES") * resource.getpagesize() // 2
resource.setrlimit(resource.RLIMIT_AS, (used + half + 2**28,) * 2)
assert keep_freed_memory()
file = mmap.mmap(-1, 2**30)
print(float(torch.ones(16, 1024, 1024).sum()))
"""


def test_a_process_whose_addresses_are_limited_has_them_for_files_too() -> None:
    command = [sys.executable, "-c", LITTLE_ROOM]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(result.stdout) == 2**24


def test_memory_that_counts_from_when_it_is_asked_for_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "overcommit_memory"
    monkeypatch.setattr(allocation, "_OVERCOMMIT", setting)
    for text, free in (("0\n", True), ("1\n", True), ("2\n", False)):
        setting.write_text(text)
        assert allocation._addresses_are_free() is free


def test_large_pages_are_asked_for_beside_other_tunables_and_only_once() -> None:
    changed = allocation.environment_with_large_pages({"HOME": "/"})
    assert changed == {"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert allocation.environment_with_large_pages(changed) is None
    other = {"GLIBC_TUNABLES": "glibc.malloc.check=1"}
    assert allocation.environment_with_large_pages(other) == {
        "GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
    }


FREED_BY_THREADS = """
import sys
import threading
from pathlib import Path
from container.allocation import give_back_freed_memory, share_one_heap

def resident():
    assert give_back_freed_memory()
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if "VmRSS" in line).split()[1]) / 1024

def use():
    blocks = [b"a" * 100_000 for _ in range(300)]
    for moment in (used, weighed):
        moment.wait()
    del blocks
    for moment in (freed, weighed):
        moment.wait()

if sys.argv[1:] == ["shared"]:
    assert share_one_heap()
large = bytearray(30_000_000)
del large  # from now on glibc keeps up to twice as much at the end of a heap
used, weighed, freed = (threading.Barrier(5) for _ in range(3))
before = resident()
threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads:
    thread.start()
used.wait()
full = resident()
weighed.wait()
freed.wait()
print(full - before, resident() - before)
weighed.wait()
"""


def test_what_threads_free_is_given_back_to_the_system() -> None:
    def left(*arguments: str) -> float:
        """MB that are still taken after threads freed what they had."""
        command = [sys.executable, "-c", FREED_BY_THREADS, *arguments]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        taken, left = map(float, result.stdout.split())
        assert taken > 100
        return left

    assert left() > 30
    assert left("shared") < 2
