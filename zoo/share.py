"""How many threads to use on a machine that others share: two when it is quiet, else one.

Two OpenMP threads against another busy process wait for each other at every barrier: measured
here, 22 pictures/s with two threads on two contended cores, 73 with one.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

import torch


def quick() -> AbstractContextManager[None]:
    """Autocast to bfloat16 where the CPU multiplies it at speed, else float32 as it is.

    Measured on a CPU with AVX2 only: products of bfloat16 at 1.2 GFLOPS, of float32 at 85.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=quick_type() is torch.bfloat16)


def quick_type() -> torch.dtype:
    """The type whose products are quickest on this CPU: bfloat16 from AVX512 on, else float32."""
    known = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if known else torch.float32


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used, from Linux's /proc/stat."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = sum(int(f) for f in fields) - int(fields[3]) - int(fields[4])
    return ticks / os.sysconf("SC_CLK_TCK")


class Courtesy:
    """Sets torch's thread count from what the others use."""

    def __init__(self, most: int, quiet: float = 0.5) -> None:
        self.most, self.quiet = most, quiet
        self.mark = (time.monotonic(), busy_seconds(), time.process_time())
        self.threads = 1
        torch.set_num_threads(1)

    def look(self) -> int:
        """Measure since the last look and choose; returns the number of threads."""
        now = (time.monotonic(), busy_seconds(), time.process_time())
        wall, busy, own = (b - a for a, b in zip(self.mark, now, strict=True))
        self.mark = now
        others = (busy - own) / max(wall, 1e-3)
        self.threads = self.most if others < self.quiet else 1
        torch.set_num_threads(self.threads)
        return self.threads
