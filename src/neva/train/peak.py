"""The most FLOP/s that a device can do, which a run's utilisation (MFU) is measured against.

For GPUs a table of the makers' numbers: dense, bfloat16, tensor cores. A CPU's data sheet has no
such number, so it is measured: large matrix products at the run's precision and threads, the best
of several. That is what the CPU reaches in practice, so a CPU's MFU is higher than one against a
theoretical peak would be.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from neva.train.recipe import Precision

# (words of torch's name for the device, FLOP/s in bfloat16, in float32, data sheet).
# The first whose words are all in the name counts. float32 is not TF32: a run does not use it.
GPUS: tuple[tuple[str, float, float, str], ...] = (
    ("GB300", 2500e12, 80e12, "NVIDIA GB300 NVL72"),
    ("B300", 2250e12, 75e12, "NVIDIA HGX B300"),
    ("GB200", 2500e12, 80e12, "NVIDIA GB200 NVL72"),
    ("B200", 2250e12, 75e12, "NVIDIA HGX B200"),
    ("GH200", 989.4e12, 66.9e12, "NVIDIA GH200"),
    ("H200 NVL", 835.5e12, 60e12, "NVIDIA H200 NVL"),
    ("H200", 989.4e12, 66.9e12, "NVIDIA H200 SXM"),
    ("H100 NVL", 835.5e12, 60e12, "NVIDIA H100 NVL"),
    ("H100 PCIe", 756.5e12, 51.2e12, "NVIDIA H100 PCIe"),
    ("H100", 989.4e12, 66.9e12, "NVIDIA H100 SXM"),
    ("A100", 312e12, 19.5e12, "NVIDIA A100"),
    ("A40", 149.7e12, 37.4e12, "NVIDIA A40"),
    ("A30", 165e12, 10.3e12, "NVIDIA A30"),
    ("A10", 125e12, 31.2e12, "NVIDIA A10"),
    ("L40S", 362e12, 91.6e12, "NVIDIA L40S"),
    ("L40", 181e12, 90.5e12, "NVIDIA L40"),
    ("L4", 121e12, 30.3e12, "NVIDIA L4"),
    ("RTX 6000 Ada", 364.2e12, 91.1e12, "NVIDIA RTX 6000 Ada"),
    ("RTX A6000", 154.8e12, 38.7e12, "NVIDIA RTX A6000"),
    ("RTX 5090", 209.5e12, 104.8e12, "NVIDIA RTX Blackwell whitepaper, accumulating in float32"),
    ("RTX 4090", 165.2e12, 82.6e12, "NVIDIA Ada whitepaper, accumulating in float32"),
    ("RTX 3090", 71e12, 35.6e12, "NVIDIA GA102 whitepaper, accumulating in float32"),
)
# Devices that share a name with a larger one: a part of it, another chip, another clock.
OTHERS = ("MIG", "Laptop", "Ti", "D")
SIDE = 1024  # of the measured products: past a CPU's caches, and done in a blink
SECONDS = 0.3


@dataclass(frozen=True)
class Peak:
    """FLOP/s of one device; `source` is a data sheet or how it was measured."""

    flops: float
    device: str
    precision: str
    threads: int
    source: str

    def to_json(self) -> dict[str, Any]:
        """For `environment.json`."""
        return asdict(self)


def find_peak(precision: Precision, known: Mapping[str, Any] | None = None) -> Peak | None:
    """The peak of the device that this process computes on; None for a GPU not in the table.

    `known` is an earlier answer, from `environment.json`: a measurement is not repeated for the
    same precision and threads.
    """
    if torch.cuda.is_available():
        return gpu_peak(torch.cuda.get_device_name(), precision)
    threads = torch.get_num_threads()
    if known and (known["device"], known["precision"], known["threads"]) == (
        "cpu",
        precision,
        threads,
    ):
        return Peak(**known)
    return measure_cpu(precision, threads)


def gpu_peak(name: str, precision: Precision) -> Peak | None:
    """The table's entry for a device that torch calls `name`; None where that is not certain."""
    words = set(re.split(r"[\s/-]+", name))
    if words & set(OTHERS):
        return None
    for part, half, single, source in GPUS:
        if words >= set(part.split()):
            flops = half if precision == "bf16" else single
            return Peak(flops, name, precision, 0, f"data sheet of {source}, dense")
    return None


def measure_cpu(precision: Precision, threads: int) -> Peak:
    """The fastest of the matrix products that fit in SECONDS; at least three. Draws no numbers."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.full((SIDE, SIDE), 0.5, dtype=kind) for _ in range(2))
    best, tries, began = float("inf"), 0, time.perf_counter()
    while tries < 3 or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        torch.mm(left, right)
        best, tries = min(best, time.perf_counter() - start), tries + 1
    words = f"measured: best of {tries} products of {SIDE} x {SIDE} in {precision}"
    return Peak(2.0 * SIDE**3 / best, "cpu", precision, threads, words)
