"""Run this image's CUDA on a host whose NVIDIA driver is older. Stdlib only.

The CUDA base image carries NVIDIA's forward-compatibility libraries. The dynamic linker reads its
search path once, when a process starts, so the doors start themselves anew with it.
https://docs.nvidia.com/deploy/cuda-compatibility/
"""

import re
from collections.abc import Mapping
from pathlib import Path

LEAST_DRIVER = 580
"""CUDA 13 runs on drivers from this version on without help."""
LIBRARIES = Path("/usr/local/cuda/compat")
DRIVER_VERSION = Path("/proc/driver/nvidia/version")
_PATH = "LD_LIBRARY_PATH"


def environment_with_libraries(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment to start anew with, or None where nothing needs to change."""
    paths = environment.get(_PATH, "").split(":")
    driver = _driver_version()
    if driver is None or driver >= LEAST_DRIVER:
        return None
    if not LIBRARIES.is_dir() or str(LIBRARIES) in paths:
        return None
    return {**environment, _PATH: ":".join([str(LIBRARIES), *filter(None, paths)])}


def _driver_version() -> int | None:
    """The major version of the host's driver, such as 535; None without one."""
    try:
        text = DRIVER_VERSION.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?\s(\d+)\.\d+", text)
    return int(found[1]) if found else None
