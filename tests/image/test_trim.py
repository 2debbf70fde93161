"""What requirements/trim.py takes out of the image, on a small stand-in for its packages."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from requirements import trim

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no C compiler")

KEPT = "numpy/_core/tests/_natype.py"
"""numpy.testing imports it, and scipy numpy.testing."""
FFT = "nvidia/cu13/lib/libcufft.so.12"
CALLS = """
int cufftCreate(void); int cusparseLtInit(void);
int create(void) { return cufftCreate(); } int init(void) { return cusparseLtInit(); }
"""

CALL = """
import ctypes, sys
torch = ctypes.CDLL(sys.argv[1])
print(torch.create(), torch.init())
"""


def compiled(path: Path, source: str, *flags: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.with_suffix(".c")
    code.write_text(source)
    command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", str(path), str(code)]
    subprocess.run([*command, *flags], check=True)
    return path


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Packages in which torch calls a Fourier transform and a sparse product that work."""
    (tmp_path / "versions").write_text("libcufft.so.12 { *; };\n")
    padding = "char padding[4000000] = {1};"
    version = f"-Wl,--version-script={tmp_path / 'versions'}"
    libraries = [
        compiled(tmp_path / FFT, f"int cufftCreate(void) {{ return 0; }} {padding}", version),
        compiled(
            tmp_path / "nvidia/cusparselt/lib/libcusparseLt.so.0",
            "int cusparseLtInit(void) { return 0; }",
        ),
        compiled(tmp_path / "nvidia/cu13/lib/libcurand.so.10", "int curandUnused;"),
    ]
    paths = [f"-Wl,-rpath,{library.parent}" for library in libraries]
    compiled(tmp_path / trim.CALLER, CALLS, "-Wl,--no-as-needed", *map(str, libraries), *paths)
    for path in trim.STRIPPED:
        if path != trim.CALLER:
            compiled(tmp_path / path, "int empty;")
    for part in trim.UNUSED:
        for pattern in part.patterns:
            part_path = tmp_path / pattern.replace("**/", "inner/").replace("*", "1")
            file = part_path if part_path.suffix else part_path / "file"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("unused")
    (tmp_path / KEPT).parent.mkdir(parents=True)
    (tmp_path / KEPT).write_text("kept")
    return tmp_path


def test_what_nothing_opens_is_gone_and_the_rest_is_there(packages: Path) -> None:
    trim.main(packages)
    assert (packages / KEPT).is_file()
    for part in trim.UNUSED:
        assert not [path for pattern in part.patterns for path in packages.glob(pattern)]


def test_torch_still_loads_and_a_missing_library_says_that_it_is_not_supported(
    packages: Path,
) -> None:
    before = (packages / FFT).stat().st_size
    trim.main(packages)
    assert (packages / FFT).stat().st_size < before / 100
    # In a process of its own: one that has loaded a library of this name before takes that again.
    done = subprocess.run(
        [sys.executable, "-c", CALL, packages / trim.CALLER],
        capture_output=True,
        text=True,
        check=True,
    )
    fft, sparse = map(int, done.stdout.split())
    assert fft == 0x10, "CUFFT_NOT_SUPPORTED"
    assert sparse == 10, "CUSPARSE_STATUS_NOT_SUPPORTED"


def test_a_part_that_an_upgrade_has_moved_is_named(packages: Path) -> None:
    shutil.rmtree(packages / "openvino/include")
    with pytest.raises(SystemExit, match="openvino/include"):
        trim.main(packages)


def test_a_library_that_torch_no_longer_links_to_is_named(packages: Path) -> None:
    compiled(packages / trim.CALLER, "int alone;")
    with pytest.raises(SystemExit, match=r"libcurand\.so\.10"):
        trim.main(packages)


def test_packages_that_are_not_there_are_not_missed(tmp_path: Path) -> None:
    (tmp_path / "flask").mkdir()
    assert list(trim.trim(tmp_path)) == []
