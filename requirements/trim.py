"""Take out of the image what Kennel never runs: `trim.py SITE_PACKAGES`. Prints what went, and why.

Run while the image is built, where a C compiler and binutils are at hand. `--build-arg TRIM=false`
leaves everything in, for scripts of your own that need it.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Unused:
    """Files of a package that nothing here opens."""

    package: str
    patterns: tuple[str, ...]
    why: str


UNUSED = (
    Unused(
        "triton",
        ("triton", "triton-*.dist-info"),
        "torch.compile's back end for GPUs, which needs a C compiler, and the image has none",
    ),
    Unused(
        "torch",
        ("torch/include", "torch/bin/protoc*", "torch/share", "nvidia/*/include"),
        "headers and compilers' tools, for building extensions",
    ),
    Unused(
        "nvidia/cu13",
        ("nvidia/cu13/lib/libnvrtc*.alt.so*",),
        "a second build of the run-time compiler, which nothing links to or loads",
    ),
    Unused(
        "nvidia/cu13",
        ("nvidia/cu13/lib/libcusolverMg.so*", "nvidia/cu13/lib/libcufftw.so*"),
        "linear algebra over several GPUs, and FFTW's interface: torch links to neither",
    ),
    Unused(
        "nvidia",
        ("nvidia/*/lib/*.a", "nvidia/nvshmem/lib/libnvshmem_device.bc"),
        "libraries for linking GPU programs",
    ),
    Unused(
        "openvino",
        (
            "openvino/libs/libopenvino_intel_gpu_plugin.so",
            "openvino/libs/libopenvino_intel_npu_plugin.so",
            "openvino/libs/cache.json",
            "openvino/include",
        ),
        "Intel's GPUs and NPUs, which no SageMaker instance has",
    ),
    *(
        Unused(package, (f"{package}/**/tests",), "the package's own tests")
        # Not numpy's: numpy.testing, which scipy imports, needs them.
        for package in ("matplotlib", "networkx", "pandas", "scipy", "sklearn", "sympy")
    ),
)


@dataclass(frozen=True)
class Unreached:
    """A library that torch is linked to, so it must be there, and that a ResNet never calls.

    A library of the same name takes its place, in which every function that torch names returns
    that it is not supported; torch says so, by the library's own words, to whoever calls it.
    """

    path: str
    functions: str
    status: int
    why: str


UNREACHED = (
    Unreached(
        "nvidia/cu13/lib/libcurand.so.10",
        r"curand\w+",
        999,  # CURAND_STATUS_INTERNAL_ERROR
        "random numbers, for which torch has its own: it names no function of this library",
    ),
    Unreached(
        "nvidia/cu13/lib/libcufft.so.12",
        r"cufft\w+",
        0x10,  # CUFFT_NOT_SUPPORTED
        "Fourier transforms (torch.fft) on a GPU",
    ),
    Unreached(
        "nvidia/cusparselt/lib/libcusparseLt.so.0",
        r"cusparseLt\w+",
        10,  # CUSPARSE_STATUS_NOT_SUPPORTED
        "products of matrices with 2:4 structured sparsity on a GPU",
    ),
)
CALLER = "torch/lib/libtorch_cuda.so"
STRIPPED = ("torch/lib/libtorch_cpu.so", CALLER, "torch/lib/libtorch_python.so")
"""Their symbol tables name every internal function for debuggers; the linker needs none of it."""


def main(packages: Path) -> None:
    """Trim the packages, and print a line for each part: megabytes, what, why."""
    total = 0
    for megabytes, what, why in trim(packages):
        total += megabytes
        print(f"{megabytes:5} MB  {what}: {why}")
    print(f"{total:5} MB  in all")


def trim(packages: Path) -> Iterator[tuple[int, str, str]]:
    """Megabytes that went, from where, and why they are not missed."""
    if (packages / CALLER).is_file():
        for library in UNREACHED:
            yield _replace(packages, library), library.path, library.why
        for path in STRIPPED:
            yield _strip(packages / path), path, "symbols for debuggers"
    for part in UNUSED:
        if (packages / part.package).is_dir():
            yield _remove(packages, part), ", ".join(part.patterns), part.why


def _remove(packages: Path, part: Unused) -> int:
    size = 0
    for pattern in part.patterns:
        found = list(packages.glob(pattern))
        if not found:
            sys.exit(f"trim.py: nothing is called {pattern} any more: look for what took its place")
        for path in found:
            if path.is_dir():
                size += _size(path)
                shutil.rmtree(path)
            elif path.exists():  # and not inside a folder that is gone
                size += path.stat().st_size
                path.unlink()
    return _megabytes(size)


def _replace(packages: Path, library: Unreached) -> int:
    """Put a library in place of this one that has just the functions which torch names."""
    path = packages / library.path
    listing = _output("nm", "--dynamic", "--undefined-only", str(packages / CALLER))
    wanted = sorted(set(re.findall(rf" U ({library.functions}(?:@\S+)?)$", listing, re.MULTILINE)))
    linked = _output("objdump", "--private-headers", str(packages / CALLER))
    if not path.is_file() or not re.search(rf"NEEDED +{re.escape(path.name)}\b", linked):
        sys.exit(f"trim.py: torch does not use {library.path} any more: look at what it links to")
    names = [name.partition("@")[0] for name in wanted]
    version = next((name.partition("@")[2] for name in wanted if "@" in name), None)
    source = "".join(f"int {name}(void) {{ return {library.status}; }}\n" for name in names)
    before = path.stat().st_size
    with tempfile.TemporaryDirectory() as scratch:
        flags = ["-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{path.name}", "-Wl,--build-id=none"]
        if version:
            script = Path(scratch, "versions")
            script.write_text(f"{version} {{ {' '.join(f'{name};' for name in names)} }};\n")
            flags.append(f"-Wl,--version-script={script}")
        code = Path(scratch, "library.c")
        code.write_text(source)
        path.unlink()  # it may be a link to a file that others use
        _output("gcc", *flags, "-o", str(path), str(code))
    return _megabytes(before - path.stat().st_size)


def _strip(path: Path) -> int:
    before, new = path.stat(), path.with_suffix(".stripped")
    _output("strip", "--strip-unneeded", "-o", str(new), str(path))
    new.chmod(before.st_mode)
    new.replace(path)
    return _megabytes(before.st_size - path.stat().st_size)


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def _megabytes(size: int) -> int:
    return round(size / 1e6)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
