"""Pages of mapped files that are read once, given back.

OpenVINO maps a graph's weights and copies them into its kernels' layout when the graph first runs;
the pages it read stay resident beside the copy. They are clean: whoever touches one again has it
from the page cache.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

DONTNEED = 4
"""MADV_DONTNEED of Linux's <sys/mman.h>."""


def let_go(file: Path) -> int:
    """Give back this process's pages of a file mapped read-only; the bytes mapped, 0 elsewhere than
    on Linux or where /proc is hidden: it saves memory, and nobody's answer may depend on it.

    A mapping that could be written to is left alone: its pages may be its own.
    """
    if not sys.platform.startswith("linux"):
        return 0
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    given = 0
    for start, end in _mappings(file):
        if libc.madvise(start, end - start, DONTNEED) == 0:
            given += end - start
    return given


def _mappings(file: Path) -> Iterator[tuple[int, int]]:
    """Where the file is mapped read-only: (first address, address behind)."""
    path = os.fsencode(file.resolve())
    try:
        maps = Path("/proc/self/maps").read_bytes()
    except OSError:
        return
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == path and b"w" not in fields[1]:
            start, end = (int(address, 16) for address in fields[0].split(b"-"))
            yield start, end
