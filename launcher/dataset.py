"""The data set: a folder of images as a training job's channels."""

from pathlib import Path, PurePosixPath
from typing import Any

from container.errors import UserError
from launcher.settings import Settings
from launcher.store import Report, Store

TRAINED = ("train", "training")
SPLITS = (*TRAINED, "validation", "valid", "val", "test", "testing")
"""Folders that become channels of their own; other data is one channel, split by the job."""
HELD_OUT = ("test", "testing", "validation", "valid", "val")
"""The splits that nothing is learned from, the least touched first."""
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")


def check(data: str | None) -> str:
    """Refuse a data set that is not there. Raises UserError."""
    if not data:
        raise UserError(
            "There are no images: give --data FOLDER, with one folder of images per class."
        )
    if "://" in data:
        return data
    path = Path(data).expanduser()
    if path.is_file() and not path.name.endswith(ARCHIVES):
        raise UserError(
            f"--data {data} is a file; give a folder of images per class, or an archive of one "
            f"({', '.join(ARCHIVES)})."
        )
    if not path.exists():
        raise UserError(f"--data {data} does not exist.")
    if path.is_dir() and not any(path.iterdir()):
        raise UserError(f"--data {data} is empty.")
    return str(path)


def check_weights(given: str) -> str:
    """Refuse pretrained weights that are not there. Raises UserError."""
    if "://" not in given and not Path(given).expanduser().exists():
        raise UserError(f"--pretrained {given} does not exist.")
    return given if "://" in given else str(Path(given).expanduser())


def located(store: Store, data: str) -> str:
    """The address that the data set has, or will have once it is uploaded."""
    return data if "://" in data else store.locate(Path(data))


def selected(store: Store, data: str) -> str:
    """The address as a request names it: a folder's ends with /.

    S3 takes it for the beginning of names: without its end, `photos` is `photos-old/`, too.
    """
    address = located(store, data)
    # Of an address nobody knows what it is: a dot in its last part is a file's, as an archive's.
    folder = not PurePosixPath(data).suffix if "://" in data else Path(data).is_dir()
    return f"{address.rstrip('/')}/" if folder else address


def splits(store: Store, data: str) -> tuple[str, ...]:
    """Which of the folders that become channels of their own the data set has."""
    if "://" in data:
        names = store.folders(data)
    else:
        path = Path(data)
        names = tuple(entry.name for entry in path.iterdir()) if path.is_dir() else ()
    found = tuple(name for name in SPLITS if name in names)
    return found if any(name in TRAINED for name in found) else ()


def held_out(store: Store, data: str) -> str | None:
    """The folder or address of the images that training does not learn from, if there is one."""
    found = splits(store, data)
    name = next((name for name in HELD_OUT if name in found), None)
    return f"{data.rstrip('/')}/{name}" if name else None


class Inputs:
    """What a training job reads: images, and the weights that it starts from."""

    def __init__(self, settings: Settings, store: Store, pretrained: str | None) -> None:
        """Raises UserError where one of them is not there."""
        self.data = check(settings.data)
        self._weights = check_weights(pretrained) if pretrained else None
        self._store = store
        self._mode = settings.input_mode

    @property
    def channels(self) -> list[dict[str, Any]]:
        """The request's `InputDataConfig`."""
        address = located(self._store, self.data)
        found = splits(self._store, self.data)
        addresses = {name: f"{address.rstrip('/')}/{name}/" for name in found}
        addresses = addresses or {"training": selected(self._store, self.data)}
        if self._weights:
            addresses["pretrained"] = selected(self._store, self._weights)
        return [self._channel(name, place) for name, place in addresses.items()]

    def bring(self, report: Report) -> None:
        """Upload what the job reads, but for what has an address already."""
        for path in filter(None, (self.data, self._weights)):
            bring(self._store, path, report)

    def _channel(self, name: str, address: str) -> dict[str, Any]:
        """One channel, read as files by every instance."""
        return {
            "ChannelName": name,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": address,
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
            "InputMode": self._mode,
        }


def bring(store: Store, data: str, report: Report) -> None:
    """Upload what a job reads, unless it is an address already."""
    if "://" not in data:
        store.upload(Path(data), report)
