"""`serve`: becomes gunicorn's master process, whose worker loads the model after the fork.

The master imports neither Flask nor the engine. It is the process that gets Docker's SIGTERM.
"""

import argparse
import contextlib
import itertools
import logging
import mmap
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from container.allocation import share_one_heap
from container.errors import UserError
from container.serving.draining import ignore_new_clients
from container.serving.settings import THREADS_FOR_BODIES, Settings, parse, variables
from container.serving.worker import Worker

if TYPE_CHECKING:
    from container.serving.invocation import Model
    from container.serving.models.loading import Loading
    from container.serving.models.model_table import ModelTable

log = logging.getLogger(__name__)

GRACEFUL_SECONDS = 25
"""SageMaker sends SIGKILL 30 seconds after SIGTERM."""
HANG_SECONDS = 120
"""A worker silent for so long is replaced; SageMaker itself gives up on a request after 60."""
KEEP_ALIVE_SECONDS = 75
"""Longer than load balancers keep idle connections, so that the client's side closes first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; returns only if the server cannot start."""
    _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("container").setLevel(logging.INFO)
    try:
        settings = parse(os.environ)
        server = _Server(settings, _listen(settings.port), _writable_directory())
    except UserError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 1
    share_one_heap()
    server.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    width = max(len(variable.name) for variable in variables())
    lines = [
        f"  {variable.name:{width}}  {variable.meaning}"
        + (f"; {variable.check.describe()}" if variable.check else "")
        + (f" (default {variable.default})" if variable.default else "")
        for variable in variables()
    ]
    return argparse.ArgumentParser(
        prog="serve",
        description="Answer GET /ping and POST /invocations with the model that training wrote.",
        epilog="\n".join(["environment variables:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _listen(port: int) -> socket.socket:
    """Bind the port here, since gunicorn would try a port in use again and again."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("0.0.0.0", port))  # noqa: S104  the contract: reachable from outside
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise UserError(
            f"Port {port} cannot be listened on: {error.strerror}. Stop what uses it, or set "
            "SAGEMAKER_BIND_TO_PORT."
        ) from None
    return listener


def _writable_directory() -> str:
    """Where workers keep their sign of life, best in memory: a slow disk looks like a hang.

    Raises:
        UserError: nothing can be written anywhere.
    """
    for directory in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")):  # noqa: S108
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=directory):
            return directory
    raise UserError("Neither /dev/shm nor /tmp can be written to; mount a tmpfs at /tmp.")


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn, configured by our settings alone: no file, no GUNICORN_CMD_ARGS."""

    def __init__(self, settings: Settings, listener: socket.socket, sign_of_life: str) -> None:
        self._settings = settings
        self._options = {
            "bind": f"fd://{listener.detach()}",
            "worker_class": Worker,
            "workers": settings.workers,
            "threads": settings.threads + THREADS_FOR_BODIES,
            "timeout": HANG_SECONDS,
            "graceful_timeout": GRACEFUL_SECONDS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "worker_tmp_dir": sign_of_life,
            "control_socket_disable": True,  # it would be written to the home directory
            "loglevel": "warning",
            "pre_fork": _take_slot,
            "post_fork": self._keep_worker,
            "child_exit": self._check_child,
        }
        self._slot = 0
        self._worker: Any = None
        """The worker of this process, after the fork."""
        # One byte that the master shares with its workers: whether a model was ever loaded.
        self._loaded_once = mmap.mmap(-1, 1)
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's options."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application of one worker, in its own process."""
        served = self._table() if self._settings.multi_model else self._loading()
        # Flask is imported while the other thread reads the weights.
        from container.serving.app import create_app

        return create_app(served, self._settings)

    def run(self) -> None:
        """Become the master, until SIGTERM."""
        _Master(self).run()

    def _loading(self) -> "Loading":
        from container.serving.models.loading import Loading

        loading = Loading(self._load_model, _give_up, self._worker.welcome_clients)
        loading.start()
        return loading

    def _table(self) -> "ModelTable":
        from container.serving.engines import engine
        from container.serving.models import served
        from container.serving.models.model_table import ModelTable

        self._loaded_once[0] = 1
        root = self._settings.models_root
        log.info("Serving the models in %s on port %d.", root, self._settings.port)
        return ModelTable(
            root,
            partial(served.load, self._settings, self._slot),
            partial(engine.memory_needed, self._settings),
        )

    def _load_model(self) -> "Model":
        from container.serving.models import served

        started = time.monotonic()
        model = served.load(self._settings, self._slot)
        self._loaded_once[0] = 1
        log.info(
            "Serving %s on port %d; loaded in %.1f s.",
            model.title,
            self._settings.port,
            time.monotonic() - started,
        )
        return model

    def _keep_worker(self, _master: Arbiter, worker: Any) -> None:
        self._slot = worker.slot
        self._worker = worker
        # Alone it answers pings while it loads; of several, those that are ready answer.
        worker.waits = self._settings.workers > 1

    def _check_child(self, master: "_Master", _worker: Any) -> None:
        """A worker that dies is replaced, unless no worker has ever loaded the model."""
        if not self._loaded_once[0] and not master.stopping:
            raise HaltServer("The model does not fit into memory, or crashes the engine.", 1)


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master, less its comments where a worker has said in a sentence what is wrong."""

    stopping = False

    def start(self) -> None:
        """Start, with the comment on the worker's exit code left out."""
        self.log.error_log.addFilter(
            lambda record: (
                not record.getMessage().endswith(f" exited with code {self.APP_LOAD_ERROR}.")
            )
        )
        super().start()

    def stop(self, graceful: bool = True) -> None:
        """Stop the workers."""
        self.stopping = True
        for listener in self.LISTENERS:
            ignore_new_clients(listener.sock)
        super().stop(graceful)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Stop, with the comments on it left out."""
        self.log.error_log.disabled = exit_status == self.APP_LOAD_ERROR
        super().halt(reason, exit_status)


def _take_slot(master: Arbiter, worker: Any) -> None:
    """Number the workers, so that a new one takes the GPU of the one it replaces."""
    taken = {other.slot for other in master.WORKERS.values()}
    worker.slot = next(slot for slot in itertools.count() if slot not in taken)


def _give_up(error: BaseException) -> None:
    """Without its model a worker is of no use: end it, and by its exit code the whole server."""
    if isinstance(error, UserError):
        print(f"serve: {error}", file=sys.stderr, flush=True)
    else:
        log.error("serve: the model could not be loaded", exc_info=error)
    os._exit(Arbiter.APP_LOAD_ERROR)
