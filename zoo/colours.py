"""Named colours and plain shapes: how each is drawn, so that captions and answers are true."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.colors import XKCD_COLORS
from PIL import Image, ImageDraw, ImageFilter

Rgb = tuple[int, int, int]

COLOURS: dict[str, tuple[Rgb, ...]] = {
    "red": ((225, 35, 35), (255, 0, 0), (232, 95, 80)),
    "green": ((30, 160, 45), (0, 240, 20), (0, 128, 0), (175, 205, 55), (95, 165, 60)),
    "blue": ((35, 60, 220), (0, 0, 255), (40, 110, 230), (140, 205, 240), (90, 175, 230)),
    "yellow": ((245, 220, 30), (255, 255, 0), (250, 235, 70)),
    "teal": ((0, 128, 128), (20, 150, 145)),
    "brown": ((125, 70, 25), (165, 42, 42), (140, 90, 50), (165, 122, 65), (105, 70, 45)),
    "gray": ((128, 128, 128), (150, 150, 150), (170, 170, 170)),
    "black": ((8, 8, 8), (25, 25, 25)),
    "orange": ((250, 140, 20), (255, 165, 0), (228, 115, 40)),
    "purple": ((135, 40, 175), (128, 0, 128), (178, 150, 200), (138, 100, 170)),
    "pink": ((250, 130, 185), (255, 170, 195), (235, 120, 150)),
    "white": ((250, 250, 250),),
}
"""Name -> centres of the colour, pure, light and dark: people call lime green and the sky blue. The
first eight are easy-VQA's colours."""


@cache
def surveyed(name: str) -> tuple[Rgb, ...]:
    """Shades that people named with it and a word of their own: *sky blue*, *brick red*.

    From XKCD's survey of 2010 (CC0), as matplotlib has it; names of two basic colours, as *yellow
    green* or *reddish brown*, are left out.
    """
    others = re.compile(rf"(?!{name}\b)({'|'.join(COLOURS)}|grey|violet|lavender|purpl)|ish")
    found = {
        code: words.removeprefix("xkcd:")
        for words, code in XKCD_COLORS.items()
        if words.endswith(f" {name}")
    }
    codes = [code for code, words in found.items() if not others.search(words)]
    return tuple((int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)) for c in codes)


SHAPES = (
    "circle",
    "rectangle",
    "triangle",
    "square",
    "star",
    "pentagon",
    "hexagon",
    "ellipse",
    "diamond",
    "cross",
    "ring",
    "crescent",
)
"""The first three are easy-VQA's shapes. CLIP's heads have one output each: append nothing."""

HEART = "heart"
DRAWN = (*SHAPES, HEART)
"""All kinds that `draw_shape` draws."""

OUTLINED = 0.45
"""Share of the shapes that have a dark outline, as most artists' plain shapes do."""


@dataclass(frozen=True)
class Shape:
    """One plain shape with its colour's name."""

    kind: str
    colour: str

    @property
    def phrase(self) -> str:
        """``red triangle``."""
        return f"{self.colour} {self.kind}"


TINTLESS = ("gray", "black", "white")
SURVEYED = 0.5
"""Share of the shades that are people's own, where they gave any."""


def shade(name: str, rng: np.random.Generator, spread: float = 9.0) -> Rgb:
    """A colour that bears the name; black, white and gray stay without a tint."""
    grey = name in TINTLESS
    centres = COLOURS[name]
    if not grey and rng.random() < SURVEYED:
        centres = surveyed(name)
    noise = rng.normal(0, spread, 1 if grey else 3)
    centre = np.array(centres[rng.integers(len(centres))])
    r, g, b = np.clip(centre + noise, 0, 255).astype(int)
    return int(r), int(g), int(b)


def _corners(kind: str, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Unit-box corners of a shape about the origin, radius 1."""

    def ring(n: int, start: float = -math.pi / 2) -> list[tuple[float, float]]:
        return [
            (math.cos(start + 2 * math.pi * i / n), math.sin(start + 2 * math.pi * i / n))
            for i in range(n)
        ]

    if kind == "triangle":
        return [(x * rng.uniform(0.75, 1), y * rng.uniform(0.75, 1)) for x, y in ring(3)]
    if kind in ("pentagon", "hexagon"):
        return ring(5 if kind == "pentagon" else 6)
    if kind == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if kind == "rectangle":
        half = rng.uniform(0.4, 0.68)
        return [(-1.0, -half), (1.0, -half), (1.0, half), (-1.0, half)]
    if kind == "diamond":
        half = rng.uniform(0.6, 1.0)
        return [(0, -1), (half, 0), (0, 1), (-half, 0)]
    if kind == HEART:
        return _heart(rng.uniform(0.95, 1.2))
    if kind == "star":
        inner = rng.uniform(0.38, 0.48)
        outer, points = ring(5), ring(5, -math.pi / 2 + math.pi / 5)
        return [
            p for o, (x, y) in zip(outer, points, strict=True) for p in (o, (x * inner, y * inner))
        ]
    arm = rng.uniform(0.25, 0.4)
    return [
        (-arm, -1),
        (arm, -1),
        (arm, -arm),
        (1, -arm),
        (1, arm),
        (arm, arm),
        (arm, 1),
        (-arm, 1),
        (-arm, arm),
        (-1, arm),
        (-1, -arm),
        (-arm, -arm),
    ]


def _heart(wide: float) -> list[tuple[float, float]]:
    """The curve ``16 sin^3 t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t``, in the unit box."""
    turns = [2 * math.pi * n / 80 for n in range(80)]
    waves = ((13, 1), (-5, 2), (-2, 3), (-1, 4))
    return [
        (
            math.sin(t) ** 3 * min(1.0, wide),
            -(sum(a * math.cos(n * t) for a, n in waves) + 2.5) / (14.5 * max(1.0, wide)),
        )
        for t in turns
    ]


def _round_mask(kind: str, side: int, rng: np.random.Generator) -> Image.Image:
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    pad = side * 0.04
    if kind == "ellipse":
        half = side * rng.uniform(0.24, 0.36)
        draw.ellipse((pad, side / 2 - half, side - pad, side / 2 + half), fill=255)
        return mask
    draw.ellipse((pad, pad, side - pad, side - pad), fill=255)
    if kind == "ring":
        hole = side * rng.uniform(0.18, 0.3)
        draw.ellipse((hole, hole, side - hole, side - hole), fill=0)
    if kind == "crescent":
        shift = side * rng.uniform(0.22, 0.34)
        draw.ellipse((pad + shift, pad * 2, side - pad + shift, side - pad * 2), fill=0)
    return mask


def _mask(kind: str, side: int, rng: np.random.Generator) -> Image.Image:
    if kind in ("circle", "ellipse", "ring", "crescent"):
        return _round_mask(kind, side, rng)
    mask = Image.new("L", (side, side))
    half = side * 0.48
    points = [(side / 2 + x * half, side / 2 + y * half) for x, y in _corners(kind, rng)]
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return mask


def _outline(mask: Image.Image, shape: Shape, side: int, rng: np.random.Generator) -> Image.Image:
    """The shape in its colour with a dark rim of 2 to 7 % of its side, thin on thin shapes.

    The rim is what a blur of the mask darkens: on a straight edge the blur's value at its own
    radius from the edge is .84.
    """
    thin = shape.kind in ("ring", "crescent", "star", "cross")
    wide = side * rng.uniform(0.02, 0.03 if thin else 0.07)
    inner = mask.filter(ImageFilter.GaussianBlur(wide)).point(
        [min(255, max(0, (v - 206) * 16)) for v in range(256)]
    )
    fill = np.array(shade(shape.colour, rng))
    dark = rng.uniform(0, 30, 3) if rng.random() < 0.65 else fill * rng.uniform(0.4, 0.65)
    ink, tone = (tuple(int(v) for v in c) for c in (dark, fill))
    image = Image.new("RGBA", mask.size, (*ink, 255))
    image.paste((*tone, 255), (0, 0), inner)
    return image


def draw_shape(shape: Shape, side: int, rng: np.random.Generator) -> Image.Image:
    """Render a shape as RGBA, cropped to its box: random turn, proportions, maybe an outline."""
    big = side * 3
    mask = _mask(shape.kind, big, rng)
    steady = {"square": 0.25, HEART: 0.25, "diamond": 0.1, "cross": 0.15}
    if rng.random() < steady.get(shape.kind, 0.7):
        turn = rng.uniform(-12, 12) if shape.kind in steady else rng.uniform(0, 360)
        mask = mask.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    if rng.random() < OUTLINED:
        image = _outline(mask, shape, big, rng)
    else:
        image = Image.new("RGBA", mask.size, (*shade(shape.colour, rng), 255))
    image.putalpha(mask)
    image = image.crop(mask.getbbox() or (0, 0, big, big))
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)
