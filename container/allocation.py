"""What the C library's allocator does with freed memory, set to suit what a process is for.

Training keeps it: a step asks for as much again as the last one freed. glibc gives large blocks
back to the system at once, and the system fills every page with zeros when it is asked for again.
It keeps it in pages of 2 MB, of which a processor need look up far fewer.

Serving gives it back: a model that is unloaded makes room for another. glibc has a heap for each
thread that allocates, and gives what is free at the end of a heap back for the first of them only.
Its heap lies in large pages too: glibc itself asks for them, if it is told so at the start.

What is set is said to have been set: musl and macOS cannot.
"""

import ctypes
import gc
import mmap
import os
import resource
from collections.abc import Mapping
from pathlib import Path

from container import processors

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
"""From glibc's malloc.h; see mallopt(3)."""
_NEVER = -1
_ROOM = 64 * 2**20
"""Bytes by which the heap grows beyond what is asked for."""
_LARGE_PAGE = 2 * 2**20
_TUNABLES = "GLIBC_TUNABLES"
_LARGE_HEAP = "glibc.malloc.hugetlb=1"
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
_STRICT = "2"
"""Memory counts from when it is asked for, used or not; see proc_sys_vm(5)."""


def keep_freed_memory() -> bool:
    """Keep it from now on in this process, and take it in large pages.

    A step that trains all layers takes a fifth less time; the peak of memory grows by little.
    """
    kept = _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _ROOM})
    if kept and _addresses_are_free():
        _take_large_pages(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return kept


def _addresses_are_free() -> bool:
    """Whether memory may be asked for that is not used, and nothing else goes without for it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return limit == resource.RLIM_INFINITY and processors.read(_OVERCOMMIT) != _STRICT


def _take_large_pages(size: int) -> None:
    """Let the heap's next bytes, so many, lie in large pages once they are used.

    The heap is grown by one block of that size, which is freed again and so is where all others
    are taken from. torch's own THP_MEM_ALLOC_ENABLE asks for large pages tensor by tensor: each
    begins at one, so that memory between them is lost, and small tensors have none.
    """
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = library.malloc(size)
    if block is None:
        return  # more than the system gives one process
    first = -(-block // _LARGE_PAGE) * _LARGE_PAGE
    # Where the kernel has no large pages this is refused, and nothing is lost.
    library.madvise(first, (block + size - first) // _LARGE_PAGE * _LARGE_PAGE, mmap.MADV_HUGEPAGE)
    library.free(block)


def environment_with_large_pages(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment for a heap in large pages from its first byte, where the kernel has them.

    None where it says so already, or says otherwise.
    """
    tunables = environment.get(_TUNABLES, "")
    if "glibc.malloc.hugetlb" in tunables:
        return None
    return {**environment, _TUNABLES: ":".join(filter(None, (tunables, _LARGE_HEAP)))}


def share_one_heap() -> bool:
    """One heap for all threads that start from now on, here and in forks.

    A server of ResNet-18 takes a tenth less memory for it, and is not slower.
    """
    return _set({_ARENA_MAX: 1})


def give_back_freed_memory() -> bool:
    """Return to the system what was freed and the allocator would keep for later."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return False
    return True


def _set(settings: dict[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = [mallopt(parameter, value) for parameter, value in settings.items()]
    return all(taken)
