"""`python -m container.debugging.profiler.sampler DIRECTORY NODE RULES`: how busy the machine is.

Samples of the machine, twice a second, in SageMaker's own file format.

A process of its own, so that training's interpreter is not held up; it ends with its standard
input. smdebug's `LocalSystemMetricsReader` and `PandasFrame` read what it writes:
`system/incremental/YYYYMMDDHH/MINUTE.algo-N.json`, one JSON object a line.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import psutil
except ImportError as error:  # training does without
    sys.exit(f"The machine is not sampled: {error}.")

INTERVAL = 0.5
FIRST_LOOK = PAUSE = 60.0
"""Seconds until the rules look at the profile for the first time, and between two looks."""
PAUSE_SHARE = 50
"""How many times longer than a look the pause after it is."""

_Sample = tuple[str, str, str, float]
"""Type, name, dimension and value."""


class Machine:
    """What there is to measure; rates are since the measurement before."""

    def __init__(self) -> None:
        psutil.cpu_times_percent(percpu=True)
        self._time = time.monotonic()
        self._disk, self._network = psutil.disk_io_counters(), psutil.net_io_counters()
        self._gpus = _gpus()

    def samples(self) -> Iterator[_Sample]:
        """Everything, now."""
        for number, times in enumerate(psutil.cpu_times_percent(percpu=True)):
            yield "cpu", f"cpu{number}", "CPUUtilization", 100 - times.idle - _iowait(times)
            yield "cpu", f"cpu{number}", "I/OWaitPercentage", _iowait(times)
        yield "memory", "MemoryUsedPercent", "", psutil.virtual_memory().percent
        now = time.monotonic()
        seconds, self._time = max(now - self._time, 1e-3), now
        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        if disk and self._disk:
            before = self._disk
            counts = disk.read_count + disk.write_count - before.read_count - before.write_count
            read, written = (
                disk.read_bytes - before.read_bytes,
                disk.write_bytes - before.write_bytes,
            )
            yield "i/o", "IOPS", "", counts / seconds
            yield "i/o", "ReadThroughputInBytesPerSecond", "", read / seconds
            yield "i/o", "WriteThroughputInBytesPerSecond", "", written / seconds
        if network and self._network:
            received = network.bytes_recv - self._network.bytes_recv
            sent = network.bytes_sent - self._network.bytes_sent
            yield "network", "ReceiveBytesPerSecond", "Algorithm", received / seconds
            yield "network", "TransmitBytesPerSecond", "Algorithm", sent / seconds
        self._disk, self._network = disk, network
        for number, handle in enumerate(self._gpus):
            yield from _gpu_samples(f"gpu{number}", handle)


def _iowait(times: Any) -> float:
    return float(getattr(times, "iowait", 0.0))


def _gpus() -> list[Any]:
    """NVIDIA's handles, or nothing where there is no driver or no binding."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # whatever the driver's ailment, the other samples are worth having
        return []


def _gpu_samples(name: str, handle: Any) -> Iterator[_Sample]:
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        busy = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError:
        return
    yield "gpu", name, "GPUUtilization", busy
    # What rules compare is how full the memory is, not how often it was read.
    yield "gpu", name, "GPUMemoryUtilization", 100 * memory.used / memory.total


def run(directory: Path, node: str, rules: str) -> None:
    """Sample until the standard input ends; now and then have the rules look at the profile."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    started = time.time()
    machine = Machine()
    look: Callable[[], None] | None = None
    due = time.monotonic() + FIRST_LOOK
    while not select.select([sys.stdin], [], [], INTERVAL - time.time() % INTERVAL)[0]:
        now = time.time()
        hour = time.strftime("%Y%m%d%H", time.gmtime(now))
        path = directory / "system/incremental" / hour / f"{int(now // 60) * 60}.{node}.json"
        lines = [
            json.dumps(
                {
                    "Type": kind,
                    "Name": name,
                    "Dimension": dimension,
                    "Value": round(value, 2),
                    "NodeId": node,
                    "Timestamp": now,
                },
                separators=(",", ":"),
            )
            for kind, name, dimension, value in machine.samples()
        ]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write("\n".join(lines) + "\n")
        except OSError as error:
            print(f"The machine is no longer sampled: {error}.", flush=True)
            return
        if rules and time.monotonic() >= due:
            if look is None:
                # Imported here: most jobs are over before the first look, and NumPy is large.
                from container.debugging.profiler.live import LiveRules

                look = LiveRules(directory, rules, since=started).look
            before = time.monotonic()
            look()
            due = before + max(PAUSE, PAUSE_SHARE * (time.monotonic() - before))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
