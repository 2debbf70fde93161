"""What smdebug writes with, here: no threads, which die on a full disk and are then waited for."""

from pathlib import Path
from typing import Any

import smdebug.core.hook
import smdebug.core.writer
from smdebug.core.tfevent.event_file_writer import EventFileWriter
from smdebug.core.tfevent.events_writer import EventsWriter
from smdebug.core.writer import FileWriter

from container.debugging.step_file import StepFile


def install() -> None:
    """Have smdebug write with these."""
    smdebug.core.writer.EventFileWriter = _UnthreadedWriter
    smdebug.core.hook.FileWriter = _file_writer


class _UnthreadedWriter(EventFileWriter):  # type: ignore[misc]
    """Writes TensorBoard's events in the caller's thread: smdebug's own dies on a full disk, and
    the caller then waits for it for ever.
    """

    def __init__(  # smdebug's signature; there is no queue here and nothing to flush in time
        self,
        path: str,
        max_queue: int = 10,
        flush_secs: int = 120,
        index_writer: Any = None,
        verbose: bool = False,
        write_checksum: bool = False,
    ) -> None:
        self._events = EventsWriter(path=path, verbose=verbose, write_checksum=write_checksum)
        self._events.init()

    def write_event(self, event: Any) -> None:
        """Write one event."""
        self._events.write_event(event)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._events.flush()

    def close(self) -> None:
        """Close the file, which gets its final name now."""
        self._events.close()

    def name(self) -> str:
        """The file's path."""
        return str(self._events.name())


def _file_writer(trial_dir: str, worker: str, step: int = 0, **settings: Any) -> Any:
    """What smdebug is to write with: its own writer for TensorBoard, and ours for all else."""
    if settings.get("wtype") == "tensorboard":
        return FileWriter(trial_dir=trial_dir, worker=worker, step=step, **settings)
    return StepFile(Path(trial_dir), worker, step)
