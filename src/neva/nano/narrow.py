"""Trained tensors as they are committed: large matrices in eight bits, the rest in bfloat16.

A matrix of eight bits is whole numbers -127 to 127 and a float32 scale for each row: each output of
a layer, or each component of an adapter (row of A, column of B). It halves what an install and the
repository's history hold; an engine in int8 rounds the same weights again (docs/engines.md).
An adapter's numbers go from -31 to 31 only, in six bits (`neva.nano.sixbit`): it is a small part of
what the LM's weights become. Those of older versions are in eight.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from neva.nano.sixbit import FOUR, squeezed, widened

Array = NDArray[Any]
SCALE = ".scale"
LEAST = 4096  # elements; what is smaller is not worth a scale
LEVELS = 127
ADAPTER_LEVELS = 31


def narrowed(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors by name -> those to store; of a matrix of eight bits also its ``NAME.scale``."""
    stored: dict[str, Array] = {}
    for name, value in tensors.items():
        if value.ndim != 2 or value.size < LEAST:
            stored[name] = np.ascontiguousarray(value.astype(ml_dtypes.bfloat16))
            continue
        wide = value.astype(np.float32)
        adapter = ".lora_" in name
        levels = ADAPTER_LEVELS if adapter else LEVELS
        scale = np.abs(wide).max(axis=_inner(name), keepdims=True) / np.float32(levels)
        scale[scale == 0] = 1
        numbers = np.ascontiguousarray(np.rint(wide / scale).astype(np.int8))
        six = adapter and numbers.shape[-1] % FOUR == 0
        stored[name] = squeezed(numbers) if six else numbers
        stored[name + SCALE] = scale
    return stored


class Widened(Mapping[str, Array]):
    """Stored tensors as they were, each in bfloat16, made when asked for."""

    def __init__(self, stored: Mapping[str, Array]) -> None:
        self.stored = stored

    def __getitem__(self, name: str) -> Array:
        """A tensor; those of eight or six bits times their scale in float32, rounded once."""
        value = self.stored[name]
        if value.dtype == np.uint8:
            value = widened(value)
        if value.dtype != np.int8:
            return value
        wide = value.astype(np.float32) * self.stored[name + SCALE]
        return wide.astype(ml_dtypes.bfloat16)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.stored if not name.endswith(SCALE))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _inner(name: str) -> int:
    """The axis over which one scale holds."""
    return 0 if name.endswith(".lora_B") else 1
