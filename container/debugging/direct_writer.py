"""smdebug's writer of event files without its thread."""

from typing import Any

from smdebug.core.locations import TensorLocation
from smdebug.core.tfevent.event_file_writer import EventFileWriter
from smdebug.core.tfevent.events_writer import EventsWriter
from smdebug.core.tfevent.index_file_writer import EventWithIndex
from smdebug.core.utils import get_relative_event_file_path, parse_worker_name_from_file


class DirectWriter(EventFileWriter):  # type: ignore[misc]
    """Writes in the caller's thread. smdebug's own writer thread dies when the disk is full,
    and the caller then waits for it for ever; it also costs a millisecond a step to start.
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
        self._events = EventsWriter(
            path=path, index_writer=index_writer, verbose=verbose, write_checksum=write_checksum
        )
        self._events.init()

    def write_event(self, event: Any) -> None:
        """Write one event, and its place to the index."""
        if not isinstance(event, EventWithIndex):
            self._events.write_event(event)
            return
        start, length = self._events.write_event(event.event)
        file = get_relative_event_file_path(self._events.name())
        self._events.index_writer.add_index(
            TensorLocation(
                tname=event.tensorname,
                mode=event.get_mode(),
                mode_step=event.mode_step,
                event_file_name=file,
                start_idx=start,
                length=length,
                worker=parse_worker_name_from_file(file),
            )
        )

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._events.flush()

    def close(self) -> None:
        """Close the file, which gets its final name now."""
        self._events.close()

    def name(self) -> str:
        """The file's path."""
        return str(self._events.name())
