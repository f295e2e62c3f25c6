"""Flat drawings as if they were things: swollen, lit from a side, grained, a little out of shape.

    python -m zoo.relief            # a sheet of drawings and what becomes of them

No artist of the training data draws what a photograph shows: light that falls off across a body,
highlights, grain, colours that never stay the same. A drawing's own outline says how thick what it
shows is likely to be, the further from its rim the thicker (Johnston 2002, Lumo), and dark and
light inside it a little more. The normals of this relief are lit by one lamp (Phong 1975).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Rng = np.random.Generator
REACHES = (3, 5, 11, 17)
"""Windows, in pixels of half the size, over which an outline is swollen; a body is as thick as the
largest it fills."""
WAVES = (4, 12, 32, 64)
"""Cells along a side of the noise that colours and light are mottled with."""


def lit(rgba: Tensor, rng: Rng) -> Tensor:
    """Drawings ``(N, 4, S, S)`` in 0..1, straight alpha, as things under a lamp."""
    rgba = bent(rgba, rng)
    colour, alpha = rgba[:, :3], rgba[:, 3:]
    colour = mellowed(colour, rng)
    normals = normals_of(height_of(colour, alpha, rng))
    shade, gloss = lamp(normals, rng)
    grain = 1 + _each(rng, len(rgba), 0.0, 0.3) * noise(rng, len(rgba), rgba.shape[-1])
    made = (colour * shade * grain + gloss).clamp(0, 1)
    return torch.cat([torch.where(alpha > 0, made, colour), alpha], 1)


def bent(rgba: Tensor, rng: Rng) -> Tensor:
    """Drawn out of shape by a smooth field, some pixels far."""
    count, size = len(rgba), rgba.shape[-1]
    field = torch.from_numpy(rng.normal(0, 1, (count, 2, 4, 4)).astype(np.float32))
    field = F.interpolate(field, size, mode="bicubic", align_corners=False)
    still = torch.eye(2, 3).expand(count, 2, 3)
    grid = F.affine_grid(still, list(rgba.shape), align_corners=False)
    moved = grid + (_each(rng, count, 0.0, 0.07) * field).permute(0, 2, 3, 1)
    solid = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
    solid = F.grid_sample(solid, moved, align_corners=False)
    return torch.cat([solid[:, :3] / solid[:, 3:].clamp(min=1e-3), solid[:, 3:]], 1).clamp(0, 1)


def mellowed(colour: Tensor, rng: Rng) -> Tensor:
    """Colours as things have them: paler or darker, all drawn to one tint, never flat."""
    count, size = len(colour), colour.shape[-1]
    grey = colour.mean(1, keepdim=True)
    pale = grey + _each(rng, count, 0.35, 1.0) * (colour - grey)
    tint = torch.from_numpy(rng.uniform(0.2, 0.9, (count, 3, 1, 1)).astype(np.float32))
    drawn = pale + _each(rng, count, 0.0, 0.3) * (tint - pale)
    drawn = drawn.clamp(min=1e-4) ** _each(rng, count, 0.6, 1.7)
    mottled = noise(rng, count, size, channels=3)
    drawn = drawn + _each(rng, count, 0.0, 0.12) * mottled
    soft = torch.from_numpy(rng.random((count, 1, 1, 1)) < 0.5)
    return torch.where(soft, blurred(drawn, 3), drawn).clamp(0, 1)


def height_of(colour: Tensor, alpha: Tensor, rng: Rng) -> Tensor:
    """How far each pixel stands out of the page, in pixels: ``(N, 1, S, S)``."""
    count, size = len(alpha), alpha.shape[-1]
    covered = F.avg_pool2d(alpha, 2)
    swollen = torch.zeros_like(covered)
    for reach in REACHES:
        inside = (2 * blurred(covered, reach) - 1).clamp(min=0)
        swollen = swollen + 0.7 * reach * inside.sqrt()
    light = F.avg_pool2d(colour.mean(1, keepdim=True), 2)
    sign = torch.from_numpy(rng.choice([-1.0, 1.0], (count, 1, 1, 1)).astype(np.float32))
    carved = sign * _each(rng, count, 0.0, 14.0) * blurred(light, 3)
    height = blurred(_each(rng, count, 0.5, 1.4) * swollen + carved, 3)
    return F.interpolate(height, size, mode="bilinear", align_corners=False) * alpha


def normals_of(height: Tensor) -> Tensor:
    """Unit normals ``(N, 3, S, S)`` of a height in pixels ``(N, 1, S, S)``."""
    across = F.pad(height, (1, 1, 0, 0), mode="replicate")
    down = F.pad(height, (0, 0, 1, 1), mode="replicate")
    x = (across[..., :-2] - across[..., 2:]) / 2
    y = (down[..., :-2, :] - down[..., 2:, :]) / 2
    up = torch.rsqrt(x * x + y * y + 1)
    return torch.cat([x * up, y * up, up], 1)


def lamp(normals: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
    """How much light of one lamp falls on each pixel, 1 where it faces us, and its reflection."""
    count = len(normals)
    turn = torch.from_numpy(rng.normal(-math.pi / 2, 1.0, count).astype(np.float32))
    low = torch.from_numpy(rng.uniform(0.3, 1.1, count).astype(np.float32))
    ray = torch.stack([turn.cos() * low.sin(), turn.sin() * low.sin(), low.cos()], 1)
    towards = ray[:, :, None, None]
    fall = (normals * towards).sum(1, keepdim=True).clamp(min=0) / low.cos()[:, None, None, None]
    ambient = _each(rng, count, 0.25, 0.7)
    half = F.normalize(ray + torch.tensor([0.0, 0.0, 1.0]), dim=1)[:, :, None, None]
    mirror = (normals * half).sum(1, keepdim=True).clamp(min=0) ** _each(rng, count, 8.0, 60.0)
    shiny = torch.from_numpy(rng.random((count, 1, 1, 1)) < 0.5)
    gloss = torch.where(shiny, mirror * _each(rng, count, 0.1, 0.7), torch.zeros_like(mirror))
    return ambient + (1 - ambient) * fall.clamp(max=1.6), gloss


def noise(rng: Rng, count: int, size: int, channels: int = 1) -> Tensor:
    """Smooth noise of several wave lengths ``(N, C, S, S)``, each its own; spread about .6."""
    total = torch.zeros(count, channels, 1, 1)
    for cells in WAVES:
        loud = _each(rng, count, 0.0, 1.0)
        shape = (count, channels, cells, cells)
        wave = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        total = F.interpolate(total, cells, mode="bilinear", align_corners=False) + loud * wave
    made: Tensor = F.interpolate(total, size, mode="bilinear", align_corners=False)
    return made / math.sqrt(len(WAVES))


def blurred(x: Tensor, wide: int) -> Tensor:
    """The mean over a window of ``wide`` (odd) pixels; beyond the picture is nothing."""
    half = wide // 2
    return F.avg_pool2d(F.avg_pool2d(x, (1, wide), 1, (0, half)), (wide, 1), 1, (half, 0))


def _each(rng: Rng, count: int, low: float, high: float) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))


def sheet(drawings: Tensor, rng: Rng, across: int = 12) -> Image.Image:
    """Drawings ``(N, 4, S, S)`` in rows, below each what it looks like under a lamp; on white."""
    size = drawings.shape[-1]
    page = Image.new("RGB", (across * size, 2 * -(-len(drawings) // across) * size), "white")
    for below, rgba in enumerate((drawings, lit(drawings, rng))):
        solid = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
        for number, one in enumerate((solid * 255).round().byte().permute(0, 2, 3, 1).numpy()):
            row = 2 * (number // across) + below
            page.paste(Image.fromarray(one), (number % across * size, row * size))
    return page


def main(argv: list[str] | None = None) -> int:
    """Draw a sheet of Noto's drawings, flat and lit."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--out", type=Path, default=Path("zoo/results/relief.png"))
    parser.add_argument("--seed", type=int, default=5)
    o = parser.parse_args(argv)
    from zoo.drawings import Gallery

    gallery, rng = Gallery.open(o.work / "drawings"), np.random.default_rng(o.seed)
    things = ("animals-nature", "food-drink", "objects")
    rows = [n for n, d in enumerate(gallery.drawings) if d.set_name == "noto" and d.group in things]
    some = gallery.pixels[np.sort(rng.choice(rows, 24, replace=False))]
    sheet(torch.from_numpy(some).permute(0, 3, 1, 2) / 255, rng).quantize(192).save(
        o.out, optimize=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
