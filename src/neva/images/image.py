"""A verified RGB image, the only form in which a picture travels through the house."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RGBImage:
    """`array`: uint8 (height, width, 3), upright, alpha already laid on white; `digest`: sha256
    of (mode, size, pixels), the key of every image cache.
    """

    array: NDArray[np.uint8]
    digest: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.array.shape[1], self.array.shape[0]
