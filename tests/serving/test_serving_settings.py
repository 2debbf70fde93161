"""The environment variables of `serve`, and the processors it counts."""

import os
from pathlib import Path

import pytest

from container import processors
from container.errors import UserError
from container.serving import settings


def test_defaults_are_sagemaker_s() -> None:
    parsed = settings.parse({})
    assert parsed.model_dir == Path("/opt/ml/model")
    assert parsed.port == 8080
    assert parsed.max_payload == 6 * 2**20
    assert parsed.threads >= 32
    assert settings.parse({"SAGEMAKER_BIND_TO_PORT": ""}) == parsed


def test_a_payload_limit_of_zero_is_batch_transform_s_largest() -> None:
    assert settings.parse({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}).max_payload == 100 * 2**20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "0"),
        ("SAGEMAKER_BIND_TO_PORT", "65536"),
        ("SAGEMAKER_BIND_TO_PORT", "http"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "-1"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6.5"),
        ("KENNEL_THREADS", "1"),
        ("KENNEL_PROCESSES", "0"),
        ("KENNEL_ENGINE", "onnx"),
        ("KENNEL_PRECISION", "int4"),
    ],
)
def test_a_bad_value_is_refused_by_the_variable_s_name(name: str, value: str) -> None:
    with pytest.raises(UserError, match=name):
        settings.parse({name: value})


def test_fewer_threads_than_batch_transform_will_ask_for_are_refused() -> None:
    given = {"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "40"}
    with pytest.raises(UserError, match=r"KENNEL_THREADS=41 .* 42 or more"):
        settings.parse(given | {"KENNEL_THREADS": "41"})
    assert settings.parse(given | {"KENNEL_THREADS": "42"}).threads == 42
    assert settings.parse(given).threads >= 42


def test_many_models_are_known_to_one_process() -> None:
    given = {"SAGEMAKER_MULTI_MODEL": "true"}
    with pytest.raises(UserError, match=r"KENNEL_PROCESSES=2 .* SAGEMAKER_MULTI_MODEL"):
        settings.parse(given | {"KENNEL_PROCESSES": "2"})
    assert settings.parse(given).processes == 1


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 processors whose control groups are in the directory that it returns."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(processors, "CGROUPS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "1600000 100000"}, 8),
        ({"cpu.max": "garbage"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ],
)
def test_a_container_s_quota_counts(machine: Path, files: dict[str, str], count: int) -> None:
    for name, content in files.items():
        path = machine / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content + "\n")
    assert processors.available() == count


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("", 0), ("-1", 0), ("1", 1), ("0,1,2", 2), ("0,-1,1", 1)]
)
def test_nvidia_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(processors, "DEVICES", tmp_path)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert processors.nvidia_devices() == count
    chosen = {name: settings.parse({"KENNEL_ENGINE": name}) for name in ("auto", "openvino")}
    assert chosen["auto"].runs_torch == (count > 0)
    assert not chosen["openvino"].runs_torch


def test_processes_share_the_processors(machine: Path) -> None:
    for processes, each in ((1, 8), (2, 4), (3, 2), (16, 1)):
        assert settings.parse({"KENNEL_PROCESSES": str(processes)}).processors == each


def test_one_process_for_each_gpu_and_its_share_of_the_processors(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia0", "nvidia1"):
        (machine / name).touch()
    monkeypatch.setattr(processors, "DEVICES", machine)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    torch = settings.parse({"KENNEL_ENGINE": "torch", "KENNEL_PROCESSES": "8"})
    assert (torch.workers, torch.processors) == (2, 4)
    openvino = settings.parse({"KENNEL_ENGINE": "openvino", "KENNEL_PROCESSES": "4"})
    assert (openvino.workers, openvino.processors) == (4, 2)
    # Only one process can know which models are loaded.
    many = settings.parse({"KENNEL_ENGINE": "torch", "SAGEMAKER_MULTI_MODEL": "true"})
    assert (many.workers, many.processors) == (1, 8)
