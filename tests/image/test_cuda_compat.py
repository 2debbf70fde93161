from pathlib import Path

import pytest

from container import cuda_compat

# As NVIDIA's kernel modules print it; the second is the open one.
PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}.82.01  Wed Mar 27 17:05:08 UTC 2024\n"
    "GCC version:  gcc version 7.3.1 20180712 (Red Hat 7.3.1-17) (GCC)\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}.95.05  Release Build  (root)\n"
    "GCC version:  gcc version 12.2.0\n"
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cuda_compat, "DRIVER_VERSION", tmp_path / "version")
    monkeypatch.setattr(cuda_compat, "LIBRARIES", tmp_path / "compat")
    (tmp_path / "compat").mkdir()
    return tmp_path


@pytest.mark.parametrize("text", [PROPRIETARY, OPEN])
def test_an_older_driver_gets_the_libraries_first(host: Path, text: str) -> None:
    (host / "version").write_text(text.format(535))
    changed = cuda_compat.environment_with_libraries({"LD_LIBRARY_PATH": "/usr/lib", "HOME": "/"})
    assert changed == {"LD_LIBRARY_PATH": f"{host}/compat:/usr/lib", "HOME": "/"}
    assert cuda_compat.environment_with_libraries(changed) is None


@pytest.mark.parametrize("text", [PROPRIETARY, OPEN])
def test_a_driver_that_is_new_enough_needs_nothing(host: Path, text: str) -> None:
    (host / "version").write_text(text.format(580))
    assert cuda_compat.environment_with_libraries({}) is None


def test_a_machine_without_a_gpu_needs_nothing(host: Path) -> None:
    assert cuda_compat.environment_with_libraries({}) is None


def test_an_image_without_the_libraries_is_left_alone(host: Path) -> None:
    (host / "version").write_text(PROPRIETARY.format(470))
    (host / "compat").rmdir()
    assert cuda_compat.environment_with_libraries({}) is None
