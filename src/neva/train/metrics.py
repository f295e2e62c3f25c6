"""What a run says about itself: a line of JSON per step, a plot, and the machine it ran on.

`metrics.jsonl` is cut back to its length at the checkpoint when a run is resumed, so a step never
stands in it twice.
"""

import json
import math
import os
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from neva.train.peak import Peak

_PACKAGES = ("neva-vlm", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy")


class MetricsLog:
    """Appends lines to `path`; `length` goes into a checkpoint and comes back on resume."""

    def __init__(self, path: Path, length: int = 0) -> None:
        self._file = path.open("ab")
        self._file.truncate(length)
        self._file.seek(0, os.SEEK_END)

    def write(self, line: Mapping[str, Any]) -> None:
        """One line, readable at once by whoever follows the file."""
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    @property
    def length(self) -> int:
        """Bytes written, all of them on the disk."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def peak_memory() -> int:
    """Most bytes this process has held in RAM (or on the GPU, where there is one)."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def environment(threads: int, processes: int, peak: Peak | None) -> dict[str, Any]:
    """Machine, versions and command line, for `environment.json`; `peak` is of one device."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "processes": processes,
        "threads": threads,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "peak": peak.to_json() if peak else None,
        "packages": versions,
        "command": sys.argv,
    }


def plot(lines: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Loss (with its running mean, and validation where there is one) and rate against steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [line for line in lines if "loss" in line]
    tried = [line for line in lines if line.get("validation_loss") is not None]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    x = [line["step"] for line in steps]
    # A step that is left out, or whose samples are all broken, has no loss: a gap in the line.
    losses = [math.nan if line["loss"] is None else line["loss"] for line in steps]
    axes.plot(x, losses, color="#9ecae1", linewidth=0.8, label="loss")
    axes.plot(x, _smooth(losses), color="#08519c", label="running mean")
    if tried:
        axes.plot(
            [line["step"] for line in tried],
            [line["validation_loss"] for line in tried],
            "o-",
            color="#d94801",
            label="validation",
        )
    axes.set(xlabel="step", ylabel="loss per supervised token", title=title)
    rates = axes.twinx()
    rates.plot(x, [line["learning_rate"] for line in steps], color="#bdbdbd", linestyle=":")
    rates.set_ylabel("learning rate (dotted)")
    axes.legend()
    figure.savefig(path, dpi=110)


def _smooth(values: Sequence[float], memory: float = 0.9) -> list[float]:
    """Exponential running mean, without the pull of its start; NaN values do not count."""
    mean, weight, out = 0.0, 0.0, []
    for value in values:
        if not math.isnan(value):
            mean = memory * mean + (1 - memory) * value
            weight = memory * weight + (1 - memory)
        out.append(mean / weight if weight else math.nan)
    return out
