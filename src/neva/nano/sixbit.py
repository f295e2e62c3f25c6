"""Whole numbers from -32 to 31 in six bits: four to three bytes.

git keeps a new file as a difference from an old one only where less than half of it differs, and
counts that in bytes as they are stored, before it compresses them. Of an adapter whose A is held B
is half: in bytes it would be stored whole, in six bits it is not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FOUR, THREE = 4, 3
"""Numbers, and the bytes that hold them."""
MIDDLE = 32


def squeezed(numbers: NDArray[np.int8]) -> NDArray[np.uint8]:
    """``(..., 4 N)`` from -32 to 31 -> ``(..., 3 N)``, the lowest bits first."""
    a, b, c, d = np.moveaxis(_grouped((numbers + MIDDLE).astype(np.uint8), FOUR), -1, 0)
    return _flat(np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], -1))


def widened(stored: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The inverse: ``(..., 3 N)`` -> ``(..., 4 N)``."""
    a, b, c = np.moveaxis(_grouped(stored, THREE), -1, 0)
    four = np.stack([a & 63, (a >> 6 | b << 2) & 63, (b >> 4 | c << 4) & 63, c >> 2], -1)
    return _flat(four).astype(np.int8) - np.int8(MIDDLE)


def _grouped(x: NDArray[Any], size: int) -> NDArray[Any]:
    return x.reshape(*x.shape[:-1], -1, size)


def _flat(x: NDArray[Any]) -> NDArray[Any]:
    return x.reshape(*x.shape[:-2], -1)
