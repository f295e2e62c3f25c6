"""The machine that figures were measured on, as its own files tell."""

import platform
from os import sched_getaffinity
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
WIDEST = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 with bf16"), ("avx512f", "AVX-512"),
          ("avx2", "AVX2"))  # fmt: skip
"""Flags that decide an engine's speed, the fastest first, and what they are called."""


def machine(cpuinfo: Path = CPUINFO) -> str:
    """``2 cores of AMD EPYC, AVX2``; less where the system tells less."""
    cores = len(sched_getaffinity(0))
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    model = told.get("model name") or platform.processor() or platform.machine()
    flags = told.get("flags", "").split()
    vectors = next((name for flag, name in WIDEST if flag in flags), "")
    return f"{cores} {'core' if cores == 1 else 'cores'} of {model}" + (vectors and f", {vectors}")
