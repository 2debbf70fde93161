"""A tuning's trials share the seconds of importing, and nothing else."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher_workspace import no_account, wait_until

from launcher.local import forked
from launcher.local.forked import ForkedRun
from launcher.local.process import ProcessEngine, ProcessRun

pytest_plugins = ("launcher_fixtures",)

FLAGS = {"weights": "none", "trainable": "all", "image-size": "32", "batch-size": "32"}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with no_account(), ProcessEngine().warm({"OMP_NUM_THREADS": "1"}, log):
        yield
    assert log.read_text() == ""


def start(base: Path, data: Path, **values: object) -> "ForkedRun | ProcessRun":
    """One training of the digits, with a directory of its own."""
    (base / "input/config").mkdir(parents=True)
    (base / "input/data").mkdir()
    (base / "input/data/train").symlink_to(data)
    flags = {**FLAGS, **{name: str(value) for name, value in values.items()}}
    pairs = ", ".join(f'"{name}": "{value}"' for name, value in flags.items())
    (base / "input/config/hyperparameters.json").write_text(f"{{{pairs}}}")
    return ProcessEngine().train("", base, [], {}, base / "log.txt")


def test_each_training_has_a_process_a_directory_a_log_and_a_code_of_its_own(
    warm: None, digits: Path, tmp_path: Path
) -> None:
    one = start(tmp_path / "one", digits, epochs=1)
    two = start(tmp_path / "two", digits, epochs=0)
    assert isinstance(one, ForkedRun)
    assert isinstance(two, ForkedRun)
    assert len({one.identity.pid, two.identity.pid, os.getpid()}) == 3
    wait_until(lambda: one.poll() is not None and two.poll() is not None)
    assert (one.poll(), two.poll()) == (0, 1)
    assert "validation:accuracy=" in (tmp_path / "one/log.txt").read_text()
    assert (tmp_path / "one/model/model.json").is_file()
    assert "epochs" in (tmp_path / "two/output/failure").read_text()
    assert "epoch 1/" not in (tmp_path / "two/log.txt").read_text()


def test_a_stopped_training_keeps_its_model_and_a_killed_one_is_known(
    warm: None, digits: Path, tmp_path: Path
) -> None:
    stopped = start(tmp_path / "stopped", digits, epochs=5000)
    killed = start(tmp_path / "killed", digits, epochs=5000)
    assert isinstance(killed, ForkedRun)
    for name in ("stopped", "killed"):
        log = tmp_path / name / "log.txt"
        wait_until(lambda log=log: log.exists() and "epoch 1/" in log.read_text())  # type: ignore[misc]
    stopped.stop(30)
    assert stopped.poll() == 0
    assert (tmp_path / "stopped/model/model.safetensors").is_file()
    os.killpg(killed.identity.pid, signal.SIGKILL)
    wait_until(lambda: killed.poll() is not None)
    assert killed.poll() == -signal.SIGKILL


def test_without_the_server_a_training_starts_as_any_other(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(forked.VARIABLE, str(tmp_path / "gone"))
    run = start(tmp_path / "job", digits, epochs=1)
    assert isinstance(run, ProcessRun)
    run.stop(30)


def test_a_server_that_cannot_import_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "MODULE", "no_such_module")
    log = tmp_path / "log.txt"
    with forked.server({"PATH": os.defpath}, log):
        wait_until(lambda: "No module named" in log.read_text())
        assert forked.train({}, tmp_path, log) is None
    assert sys.executable in log.read_text()
