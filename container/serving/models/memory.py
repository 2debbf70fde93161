"""How much memory is left to this process."""

from collections.abc import Iterator
from pathlib import Path

from container import processors

MEMINFO = Path("/proc/meminfo")


def available() -> int | None:
    """Bytes that can still be taken, within the container's limit; None where nobody says."""
    return min([*_host(), *_groups_v2(), *_group_v1()], default=None)


def _host() -> Iterator[int]:
    for line in processors.read(MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _groups_v2() -> Iterator[int]:
    for group in processors.own_groups():
        yield from _left(
            group / "memory.max", group / "memory.current", group / "memory.stat", "inactive_file"
        )


def _group_v1() -> Iterator[int]:
    group = processors.CGROUPS / "memory"
    yield from _left(
        group / "memory.limit_in_bytes",
        group / "memory.usage_in_bytes",
        group / "memory.stat",
        "total_inactive_file",
    )


def _left(limit: Path, usage: Path, statistics: Path, cache: str) -> Iterator[int]:
    """What is left of a group's limit; files in the cache make room when it is needed."""
    most, used = processors.read(limit), processors.read(usage)
    if most.isdigit() and used.isdigit():
        fields = dict(line.split(" ", 1) for line in processors.read(statistics).splitlines())
        cached = fields.get(cache, "0")
        yield int(most) - int(used) + (int(cached) if cached.isdigit() else 0)
