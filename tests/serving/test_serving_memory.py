"""How much memory is left, as the system and its control groups tell it."""

from pathlib import Path

import pytest

from container import processors
from container.serving.models import memory

MEMINFO = "MemTotal:  8000 kB\nMemFree:  1000 kB\nMemAvailable:  5000 kB\n"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        ({"meminfo": MEMINFO}, 5000 * 1024),
        ({"meminfo": "MemTotal:  8000 kB\n"}, None),
        ({"memory.max": "1000", "memory.current": "400"}, 600),
        ({"memory.max": "max", "memory.current": "400"}, None),
        ({"memory.max": "1000"}, None),
        (
            {
                "memory.max": "1000",
                "memory.current": "900",
                "memory.stat": "anon 5\ninactive_file 300\ntotal_inactive_file 7\n",
            },
            400,
        ),
        ({"memory.max": "1000", "memory.current": "900", "memory.stat": "inactive_file x\n"}, 100),
        (
            {
                "memory/memory.limit_in_bytes": "2000",
                "memory/memory.usage_in_bytes": "1500",
                "memory/memory.stat": "inactive_file 9\ntotal_inactive_file 200\n",
            },
            700,
        ),
        ({"meminfo": MEMINFO, "memory.max": "1000", "memory.current": "400"}, 600),
        ({"meminfo": MEMINFO, "memory.max": "9000000", "memory.current": "0"}, 5000 * 1024),
    ],
)
def test_the_tightest_limit_counts_and_cached_files_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], left: int | None
) -> None:
    (tmp_path / "memory").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(processors, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.available() == left
