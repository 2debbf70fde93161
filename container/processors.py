"""How many processors this process may use, and which accelerators it sees. Stdlib only."""

import os
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
DEVICES = Path("/dev")


def available() -> int:
    """Processors within this process's affinity and its container's quota, at least 1."""
    quotas = [quota for quota in (_quota_v2(), _quota_v1()) if quota]
    # macOS has no affinity.
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min([usable, *map(round, quotas)]))


def nvidia_devices() -> int:
    """NVIDIA devices that this process may use, found without loading any library."""
    present = len([path for path in DEVICES.glob("nvidia*") if path.name[6:].isdigit()])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    # As CUDA reads it: the list ends at the first entry that is no device.
    listed = visible.split(",")
    usable = next((n for n, name in enumerate(listed) if name.strip() in ("", "-1")), len(listed))
    return min(present, usable)


def _quota_v2() -> float | None:
    """The tightest quota from this process's control group up to the root."""
    quotas = []
    for directory in own_groups():
        quota, _, period = read(directory / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def own_groups() -> list[Path]:
    """This process's control groups (cgroup v2), from its own up to the root."""
    for line in read(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::/"):
            own = CGROUPS / line.removeprefix("0::/")
            return [own, *(parent for parent in own.parents if parent.is_relative_to(CGROUPS))]
    return [CGROUPS]


def _quota_v1() -> float | None:
    quota = read(CGROUPS / "cpu/cpu.cfs_quota_us")
    period = read(CGROUPS / "cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def read(path: Path) -> str:
    """The text of a small file of the kernel's, or nothing."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
