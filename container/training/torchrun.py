"""A job on several machines or GPUs: torchrun, started on every machine by `train` itself.

Loads no torch. torchrun starts one process for each GPU, or one on a machine without, each of
which is `python -m container.training` with its rank in the environment.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from container import processors
from container.errors import UserError
from container.job import Job, JobEnvironment
from container.progress import say
from container.stopping import StopSignal

PORT = "7777"
"""Of the first host, as in SageMaker's own toolkit; MASTER_PORT wins over it."""
SECONDS_FOR_HOSTS = 15 * 60
SECONDS_BETWEEN_LINES = 30
GRACE_SECONDS = 110
"""For the processes to save what they have learned, of the 120 that SageMaker gives."""


class LostConnectionError(UserError):
    """Another process of the job has failed, and its own reason says more than this one."""


def is_needed(environment: JobEnvironment) -> bool:
    """Whether this job needs more processes, and this is not already one of them."""
    together = len(environment.hosts) > 1 or processors.nvidia_devices() > 1
    return together and not is_child()


def is_child() -> bool:
    """Whether this is one of the processes that `run` has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def run(job: Job, environment: JobEnvironment, argv: Sequence[str], stop: StopSignal) -> int:
    """Train with the processes of all machines; the exit code of this machine's.

    Raises:
        UserError: a host cannot be found, or a process ended without saying why.
        Stopped: the job was asked to stop while it waited for a host.
    """
    hosts = sorted(environment.hosts)
    for host in hosts:
        _wait_for(host, stop)
    per_machine = max(1, processors.nvidia_devices())
    torchrun = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes", str(len(hosts))),
            *("--node-rank", str(hosts.index(environment.current_host))),
            *("--nproc-per-node", str(per_machine)),
            *("--master-addr", hosts[0]),
            *("--master-port", os.environ.get("MASTER_PORT", PORT)),
            *("--shutdown-timeout", str(GRACE_SECONDS)),
            *("--module", "container.training", *argv),
        ],
        env=os.environ | _variables(environment, per_machine),
    )
    code = _supervise(torchrun, stop)
    if code and not stop.requested and not job.failure_file.exists():
        raise UserError(
            f"A training process on {environment.current_host} ended without a word; the log says "
            "more. If it was killed, memory was short: lower batch-size or take a larger instance."
        )
    return 0 if stop.requested and not job.failure_file.exists() else code


def _wait_for(host: str, stop: StopSignal) -> None:
    """Wait until a host has an address: those of a cluster do not appear all at once."""
    started = time.monotonic()
    due = started + SECONDS_BETWEEN_LINES
    while True:
        stop.check()
        try:
            socket.getaddrinfo(host, None)
            return
        except OSError:
            now = time.monotonic()
        if now - started > SECONDS_FOR_HOSTS:
            raise UserError(
                f"The host {host} has no address after {SECONDS_FOR_HOSTS // 60} minutes of "
                "waiting; it may have failed to start. Start the job again."
            )
        if now >= due:
            say(f"Waiting for the host {host} to have an address.")
            due = now + SECONDS_BETWEEN_LINES
        time.sleep(1)


def _variables(environment: JobEnvironment, per_machine: int) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = str(max(1, processors.available() // per_machine))
    variables = {
        "PYTHONPATH": os.pathsep.join(paths),
        # torchrun would give each of several processes one thread.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
    }
    interface = environment.network_interface
    if interface in {name for _, name in socket.if_nameindex()}:
        variables |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    return variables


def _supervise(torchrun: subprocess.Popen[bytes], stop: StopSignal) -> int:
    """Wait for torchrun, and tell it when the job is to stop; it tells its processes."""
    told = False
    while True:
        if stop.requested and not told:
            torchrun.terminate()
            told = True
        try:
            return torchrun.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
