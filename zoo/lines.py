"""Line art coloured in: one more hand's drawing from a black outline and a coloured picture.

Some sets draw emoji in black lines only, each after a coloured set of the same house. What a line
encloses gets the middle colour that the coloured drawing has there: dark outlines and flat
colours, a style that no coloured set of the training data has.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from fontTools.pens.boundsPen import BoundsPen
from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.ttLib import TTFont
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]

COLOURED = {
    "fluent-emoji-high-contrast": "fluent-emoji-flat",
    "emojione-monotone": "emojione",
    "noto-emoji": "noto",
}
"""Line set -> the coloured set whose colours it gets."""
SOLID = 64
"""Alpha from which a pixel is ink."""
EDGE = 2
"""Pixels that a colour reaches under its outline, whose rim is half transparent."""
COVERED = 0.5
"""Share of a region that the coloured drawing must cover to give it its colour."""


def colour_in(line: Pixels, colours: Pixels) -> Pixels:
    """Line art and a coloured drawing of the same, each ``(S, S, 4)`` -> the line art with what it
    encloses filled; a region that the coloured drawing leaves empty stays empty."""
    regions, count = ndimage.label(line[..., 3] < SOLID)
    outside = {int(n) for edge in (0, -1) for n in (*regions[edge], *regions[:, edge])}
    fill = np.zeros_like(line)
    for number in range(1, count + 1):
        region = regions == number
        under = colours[region]
        shown = under[under[:, 3] > SOLID]
        if number in outside or len(shown) < COVERED * len(under):
            continue
        fill[region, :3] = np.median(shown[:, :3], axis=0)
        fill[region, 3] = 255
    if not fill[..., 3].any():
        return line
    far, nearest = ndimage.distance_transform_edt(fill[..., 3] == 0, return_indices=True)
    below = np.where((far <= EDGE)[..., None], fill[nearest[0], nearest[1]], 0)
    below[..., 3] *= (line[..., 3] >= SOLID) | (far == 0)
    alpha = line[..., 3:].astype(np.float32) / 255
    ground = below[..., 3:].astype(np.float32) / 255
    whole = alpha + ground * (1 - alpha)
    mixed = line[..., :3] * alpha + below[..., :3] * ground * (1 - alpha)
    colour = mixed / np.maximum(whole, 1e-6)
    return np.concatenate([colour, 255 * whole], axis=-1).round().astype(np.uint8)


@lru_cache(maxsize=16)
def _font(file: Path) -> TTFont:
    return TTFont(file)


def glyphs(package: Path, weight: int = 400) -> Iterator[tuple[str, str]]:
    """The characters of a web font that is split into files: codepoint and SVG text of each
    one, once."""
    seen: set[int] = set()
    for file in sorted((package / "files").glob(f"*-{weight}-normal.woff")):
        font = _font(file)
        drawn = font.getGlyphSet()
        for code, name in sorted(font.getBestCmap().items()):
            bounds, pen = BoundsPen(drawn), SVGPathPen(drawn)
            drawn[name].draw(bounds)
            if bounds.bounds is None or code in seen:
                continue
            seen.add(code)
            drawn[name].draw(pen)
            left, bottom, right, top = bounds.bounds
            box = f"{left} {-top} {right - left} {top - bottom}"
            yield (
                f"{code:x}",
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">'
                f'<path transform="scale(1,-1)" d="{pen.getCommands()}"/></svg>',
            )
