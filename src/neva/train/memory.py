"""What a process on a CPU keeps: the memory that a step frees, and not too many compiled kernels.

glibc returns every large block at once and asks for it anew in the next layer: 50,000 page faults
for a row of 1024 tokens on a CPU, a thirtieth of its time. With this there are none, and the
largest size of the process stays what it was.

oneDNN compiles a kernel for every size of matrix product and keeps the last 1024, and so does its
wrapper in torch; documents of all lengths make so many sizes that a run grew by gigabytes. A row
needs a hundred or two.
"""

import ctypes
import gc
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h's M_TRIM_THRESHOLD and so on
_LARGEST = 32 * 2**20  # glibc takes no more
_KEPT = 2**30
_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "256"}


def prepare_cpu() -> None:
    """Both, before the first product of a process that learns on a CPU."""
    keep_freed_memory()
    limit_kernel_caches()


def limit_kernel_caches() -> None:
    """Keep fewer kernels; takes effect in a process that has not multiplied matrices yet.

    What the user has set in the environment stays.
    """
    for name, count in _CACHES.items():
        os.environ.setdefault(name, count)


def keep_freed_memory() -> bool:
    """Ask the allocator of this process; False where it is another than glibc's.

    Threads share one arena: what a loader's threads leave in their own is never returned.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _KEPT), (_ARENA_MAX, 1))
    return all([mallopt(name, value) for name, value in wanted])  # noqa: C419  # each is asked


def return_freed_memory() -> None:
    """Give what nobody uses back to the system, which `keep_freed_memory` holds on to."""
    gc.collect()  # a model's modules know each other in circles
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
