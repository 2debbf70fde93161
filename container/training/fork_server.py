"""`python -m container.training.fork_server SOCKET`: trainings that need not import torch again.

Importing torch takes longer than training a head whose features are known. This process does it
once; each order that comes through the listening socket, which it inherits, is trained in a process
forked from it, with a directory, an environment and a log of its own. The server ends when its
standard input is closed; trainings under way go on.

An order is one line of JSON, `{"environment": {...}, "directory": ..., "log": ...}`. The answers
are lines of JSON too: `{"pid": ...}` at the start, `{"code": ...}` at the end.
"""

import contextlib
import gc
import json
import multiprocessing
import os
import select
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from container import cuda_compat, starting_anew
from container.openvino_resnet import import_openvino
from container.quick_start import import_torchvision
from container.training import main as train

LONGEST_ORDER = 1 << 20
FORK = multiprocessing.get_context("fork")


def main(argv: Sequence[str]) -> int:
    """Serve orders until the standard input is closed."""
    with socket.socket(fileno=int(argv[0])) as listener:
        _import_everything()
        gc.freeze()  # or each training's first collection would copy the memory that it shares
        _serve(listener)
    return 0


def _import_everything() -> None:
    """What a training imports, but nothing that starts a thread: those do not survive a fork."""
    import_torchvision()
    import container.training.run  # noqa: F401

    import_openvino()
    with tempfile.TemporaryDirectory() as nowhere:
        os.environ["SAGEMAKER_BASE_DIR"] = nowhere
        import sagemaker_training.environment  # noqa: F401
    # The toolkit reads the job's directory when it is imported: each training imports it anew,
    # without the packages that it needs.
    for name in [name for name in sys.modules if name.split(".")[0] == "sagemaker_training"]:
        del sys.modules[name]


def _serve(listener: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        _take_in_ended()
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 1):
            return
        if listener in ready:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _attend(connection)


def _take_in_ended() -> None:
    """Nobody asks for the waiting processes' codes, but what they used counts as this one's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _attend(connection: socket.socket) -> NoReturn:
    """Start one training, and tell the one who ordered it how it ends."""
    try:
        order = json.loads(connection.makefile().readline(LONGEST_ORDER))
        training = FORK.Process(target=_train, args=(connection, order))
        training.start()
        _tell(connection, pid=training.pid)
        training.join()
        _tell(connection, code=training.exitcode)
    finally:
        os._exit(0)


def _train(connection: socket.socket, order: Mapping[str, Any]) -> NoReturn:
    connection.close()
    _become(order)
    sys.exit(train([]))


def _tell(connection: socket.socket, **fact: int | None) -> None:
    # Who ordered it may be gone; the training goes on, as it would without this process.
    with contextlib.suppress(OSError):
        connection.sendall(f"{json.dumps(fact)}\n".encode())


def _become(order: Mapping[str, Any]) -> None:
    """This process in the place of one that was started for the order."""
    os.setsid()
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["directory"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    sys.argv = [str(Path(__file__).parents[2] / "train")]


if __name__ == "__main__":
    starting_anew.ensure(cuda_compat.environment_with_libraries)
    sys.exit(main(sys.argv[1:]))
