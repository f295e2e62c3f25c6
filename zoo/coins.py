"""Struck coins, drawn: a disc of metal with a rim, a number or a figure and an inscription.

Emoji show a coin as a flat yellow disc with a sign, as none lies in a purse: of copper, brass,
silver or two of them, a portrait or a number on it, worn, lit from a side (`zoo.relief`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from zoo.glyphs import CHESS, GLYPHS, Typefaces
from zoo.relief import blurred, lamp, noise, normals_of

Rng = np.random.Generator
SIDE = 128
COINS = "coins"
"""The name of the set."""
METALS = ((0.72, 0.45, 0.30), (0.80, 0.66, 0.36), (0.74, 0.74, 0.73), (0.55, 0.52, 0.47))
"""Copper, brass, silver and nickel, what light leaves of white."""
NUMBERS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 500)
LETTERS = "ABCDEFGHILMNOPRSTUVY     "


def coins(typefaces: Typefaces, count: int, rng: Rng) -> Iterator[Image.Image]:
    """So many coins, RGBA, 128 pixels wide."""
    for _ in range(count):
        yield coin(typefaces, rng)


def coin(typefaces: Typefaces, rng: Rng) -> Image.Image:
    """One coin."""
    rows, columns = torch.meshgrid(*[torch.arange(SIDE) - (SIDE - 1) / 2] * 2, indexing="ij")
    far = (rows.square() + columns.square()).sqrt() / (SIDE / 2 - 2)
    rim = rng.uniform(0.82, 0.93)
    height = 3.0 * torch.sigmoid((far - rim) * 60) + rng.uniform(1.5, 4.0) * struck(typefaces, rng)
    height = blurred(height[None, None], 3) + rng.uniform(0, 0.5) * noise(rng, 1, SIDE)
    shade, gloss = lamp(normals_of(height), rng)
    outer, inner = (torch.tensor(METALS[int(rng.integers(4))]) for _ in range(2))
    inner = inner if rng.random() < 0.25 else outer
    metal = torch.where((far < rng.uniform(0.6, 0.75))[..., None], inner, outer).permute(2, 0, 1)
    metal = metal + torch.from_numpy(rng.normal(0, 0.04, (3, 1, 1)).astype(np.float32))
    worn = 1 + 0.12 * noise(rng, 1, SIDE)
    colour = (metal * shade * worn + 0.5 * gloss).clamp(0, 1)[0]
    solid = ((1 - far) * SIDE / 2 + 0.5).clamp(0, 1)
    if rng.random() < 0.1:
        solid = solid * ((far - rng.uniform(0.15, 0.25)) * SIDE / 2 + 0.5).clamp(0, 1)
    pixels = (torch.cat([colour, solid[None]]).permute(1, 2, 0) * 255).round().numpy()
    return Image.fromarray(pixels.astype(np.uint8), "RGBA")


def struck(typefaces: Typefaces, rng: Rng) -> Tensor:
    """What stands out on a coin, 0 to 1: ``(128, 128)``."""
    page = Image.new("L", (SIDE, SIDE))
    middle = SIDE / 2 + rng.normal(0, 3), SIDE / 2 + rng.normal(0, 3)
    if rng.random() < 0.55:
        name, text = "zero", str(NUMBERS[int(rng.integers(len(NUMBERS)))])
    else:
        name = tuple(CHESS)[int(rng.integers(len(CHESS)))]
        text = GLYPHS[name][1]
    size = int(rng.uniform(46, 80) * (1.0 if len(text) < 3 else 0.7))
    font = ImageFont.truetype(str(typefaces.file_of(name, rng)), size)
    ImageDraw.Draw(page).text(middle, text, font=font, fill=255, anchor="mm")
    if rng.random() < 0.8:
        page = inscribed(page, typefaces, rng)
    return torch.from_numpy(np.asarray(page, np.float32) / 255)


def inscribed(page: Image.Image, typefaces: Typefaces, rng: Rng) -> Image.Image:
    """With letters along the rim, upright to it."""
    font = ImageFont.truetype(str(typefaces.file_of("zero", rng)), int(rng.uniform(9, 13)))
    start, step = rng.uniform(0, 2 * math.pi), rng.uniform(0.17, 0.26)
    whole = np.asarray(page)
    for number in range(int(rng.integers(5, 22))):
        letter = Image.new("L", (SIDE, SIDE))
        place = (SIDE / 2, 0.13 * SIDE)
        text = LETTERS[int(rng.integers(len(LETTERS)))]
        ImageDraw.Draw(letter).text(place, text, font=font, fill=220, anchor="mm")
        turned = letter.rotate(-math.degrees(start + number * step), Image.Resampling.BILINEAR)
        whole = np.maximum(whole, np.asarray(turned))
    return Image.fromarray(whole)
