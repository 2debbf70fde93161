"""One table for every benchmark: what was measured, how much, and against what."""

import os
import platform
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
        ratio = "" if row.ratio is None else f"{row.ratio:.2g} ×" if row.ratio < 10 else f"{row.ratio:.0f} ×"
        lines.append(f"| {row.what} | {row.figure} | {ratio} |")
    return "\n".join(lines)


def describe_machine() -> str:
    """Processor, memory and versions, as they belong beside any figure."""
    processor = platform.processor() or "unknown processor"
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line.split(":")[1].strip() for line in information.read_text().splitlines() if line.startswith("model name")]
        flags = information.read_text()
        known = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
        processor = f"{names[0] if names else processor} ({', '.join(known) or 'no AVX-512'})"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "openvino"))
    return f"{os.cpu_count()} cores, {processor}; Python {platform.python_version()}, {packages}."


def middle(values: Sequence[float]) -> float:
    """The median, which a busy moment does not move."""
    return median(values)
