"""Tensors of safetensors files that transformers reads one by one, in a call of their own.

Read, not mapped: the pages of a mapped file count as memory of the process until it is closed, and
a float32 checkpoint that becomes a bfloat16 model would stand in memory one and a half times over.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from types import EllipsisType

import numpy as np
import torch
from torch import Tensor

from neva.errors import CheckpointError
from neva.model.weights import TensorEntry, read_entries, weight_files

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """One tensor of a file; `stored[...]` reads it, as of safetensors' own slices."""

    entry: TensorEntry
    empty: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """As in the file. CheckpointError for one that neva cannot read."""
        if self.entry.dtype not in _DTYPES:
            raise CheckpointError(
                f"{self.entry.file}: {self.entry.name} is {self.entry.dtype}, which neva cannot "
                "read."
            )
        return _DTYPES[self.entry.dtype]

    def nothing(self) -> "Stored":
        """The same shape without its numbers: a single zero that stands everywhere."""
        return replace(self, empty=True)

    def __getitem__(self, whole: EllipsisType) -> Tensor:
        entry = self.entry
        if self.empty:
            return torch.zeros((), dtype=self.dtype).expand(entry.shape)
        count = entry.stop - entry.start
        # Of a file that was cut short since its header was read, fewer come: reshape says so.
        raw = np.fromfile(entry.file, np.uint8, count, offset=entry.start)
        return torch.from_numpy(raw).view(self.dtype).reshape(entry.shape)


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of a checkpoint by the name in its file."""
    return {e.name: Stored(e) for file in weight_files(folder) for e in read_entries(file)}
