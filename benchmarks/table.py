"""One table for every benchmark: what was measured, how much, and against what."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Row:
    """One measured thing; `ratio` says how many times better it is than the first of its kind."""

    what: str
    figure: str
    ratio: float | None = None


def as_markdown(title: str, rows: Sequence[Row]) -> str:
    """A table with a heading."""
    lines = [f"**{title}**", "", "| | measured | ratio |", "| --- | --- | --- |"]
    for row in rows:
        lines.append(f"| {row.what} | {row.figure} | {_times(row.ratio)} |")
    return "\n".join(lines)


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.1f} x" if ratio < 10 else f"{ratio:.0f} x"


def describe_machine() -> str:
    """Processor, memory and versions, as they belong beside any figure."""
    processor = platform.processor() or "unknown processor"
    information = Path("/proc/cpuinfo")
    if information.exists():
        text = information.read_text()
        named = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
        flags = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in text]
        processor = f"{named[1] if named else processor} ({', '.join(flags) or 'no AVX-512'})"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "openvino"))
    return f"{os.cpu_count()} cores, {processor}; Python {platform.python_version()}, {packages}."


def middle(values: Sequence[float]) -> float:
    """The median, which a busy moment does not move."""
    return median(values)
