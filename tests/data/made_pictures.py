"""Small pictures of noise, and one that is cut off."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 16
NAMES = [f"{number}.png" for number in range(6)]


def make_pictures(folder: Path) -> None:
    """Write the pictures of NAMES and "corrupt.png"."""
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "corrupt.png").write_bytes((folder / NAMES[0]).read_bytes()[:100])
