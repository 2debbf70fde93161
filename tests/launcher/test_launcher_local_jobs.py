import shutil
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from launcher import records
from launcher.local.jobs import ENDPOINT, JobsFolder


@pytest.fixture
def folder(tmp_path: Path) -> JobsFolder:
    """A jobs folder with the endpoints `cat` and `dog`."""
    folder = JobsFolder(tmp_path)
    for name in ("cat", "dog"):
        folder.create(ENDPOINT, {"EndpointName": name})
    return folder


def test_what_was_deleted_is_not_brought_back_by_a_change(folder: JobsFolder) -> None:
    shutil.rmtree(folder.directory(ENDPOINT, "cat"))
    with pytest.raises(ClientError, match="Could not find endpoint 'cat'"):
        folder.put(ENDPOINT, "cat", failure="late")
    assert not folder.directory(ENDPOINT, "cat").exists()


def test_what_is_locked_can_be_deleted(folder: JobsFolder) -> None:
    with folder.locked(ENDPOINT, "cat"):
        shutil.rmtree(folder.directory(ENDPOINT, "cat"))
    assert not folder.directory(ENDPOINT, "cat").exists()
    assert [record["request"]["EndpointName"] for record in folder.all(ENDPOINT)] == ["dog"]
    folder.create(ENDPOINT, {"EndpointName": "cat"})


def test_what_is_deleted_while_a_list_is_made_is_not_in_it(
    folder: JobsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = records.read

    def late(path: Path) -> dict[str, Any]:
        if path.parent.name == "cat":
            shutil.rmtree(path.parent)
        return read(path)

    monkeypatch.setattr(records, "read", late)
    assert [record["request"]["EndpointName"] for record in folder.all(ENDPOINT)] == ["dog"]
