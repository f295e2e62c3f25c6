"""Panoramas to look around in: rooms, halls, streets, fields and woods in their own light.

Poly Haven's environments (CC0) as ``@pmndrs/assets`` packs them: OpenEXR in base64 inside a module
of JavaScript, 512 x 256, linear light, equirectangular (longitude across, latitude down). A view is
what a camera that stands there would take, with an exposure and grain of its own.
"""

from __future__ import annotations

import base64
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import map_coordinates

Rng = np.random.Generator
Light = npt.NDArray[np.float32]
"""``(H, W, 3)``, linear, of no fixed unit."""
FIELD = (55.0, 115.0)
"""Least and most angle that a view takes in across, degrees."""
TILT = 0.35
"""Spread of how far a camera looks up or down, radians."""
MIDDLE = 0.18
"""The share of white to which a usual exposure brings the median, as grey cards have it."""


def environments(package: Path) -> tuple[Path, ...]:
    """The panoramas of the unpacked package, by name."""
    return tuple(sorted((package / "hdri").glob("*.exr.js")))


def view(file: Path, size: tuple[int, int], rng: Rng) -> Image.Image:
    """A photograph of ``size`` (width, height) taken in any direction."""
    light = read(file)
    down, along = looked_at(size, rng)
    rows = (down / np.pi * light.shape[0] - 0.5).clip(0, light.shape[0] - 1)
    columns = along / (2 * np.pi) * light.shape[1] - 0.5
    channels = (light[..., channel] for channel in range(3))
    seen = [map_coordinates(one, (rows, columns), order=1, mode="grid-wrap") for one in channels]
    grain = rng.normal(0, rng.uniform(1, 9), (*size[::-1], 1))
    pixels = developed(np.stack(seen, -1), rng) * 255 + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def looked_at(size: tuple[int, int], rng: Rng) -> tuple[Light, Light]:
    """Angle from the zenith and longitude, radians, of each pixel ``(H, W)`` of a pinhole."""
    width, height = size
    half = np.tan(np.radians(rng.uniform(*FIELD)) / 2)
    x = np.linspace(-half, half, width)[None, :]
    y = np.linspace(half, -half, height)[:, None] * height / width
    pitch, turn = rng.normal(0, TILT), rng.uniform(0, 2 * np.pi)
    ahead, up = np.cos(pitch) - y * np.sin(pitch), np.sin(pitch) + y * np.cos(pitch)
    down = np.arccos(up / np.sqrt(x**2 + y**2 + 1))
    return down, (np.arctan2(x + 0 * y, ahead + 0 * x) + turn) % (2 * np.pi)


def developed(light: Light, rng: Rng) -> Light:
    """As a camera saves it, 0..1: exposed for the median, highlights rolled off (Reinhard 2002,
    with white at four times), encoded by a gamma of 2.2."""
    exposed = light / max(1e-6, float(np.median(light))) * MIDDLE * np.exp(rng.normal(0, 0.5))
    rolled = exposed * (1 + exposed / 16) / (1 + exposed)
    return np.asarray(rolled.clip(0, 1) ** (1 / 2.2))


@lru_cache(32)
def read(file: Path) -> Light:
    """The light of a packed panorama; ValueError for another kind of module."""
    import OpenEXR  # of the zoo's extra: only who makes records reads panoramas

    start, _, packed = file.read_text(encoding="ascii").partition(";base64,")
    if not start.endswith("application/exr"):
        raise ValueError(f"{file}: no panorama in base64 in this module")
    with tempfile.NamedTemporaryFile(suffix=".exr") as plain:
        plain.write(base64.b64decode(packed.strip().rstrip(";'\"")))
        plain.flush()
        with OpenEXR.File(plain.name) as opened:
            light = opened.channels()["RGB"].pixels
    return np.asarray(light, np.float32).clip(0)
