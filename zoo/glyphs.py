"""Letters, digits and signs in thirty typefaces: what they are called and how they are drawn.

Upper and lower case bear one name, since many a pair differs by its size alone.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.colours import COLOURS, shade
from zoo.sources import SOURCES, fetch

Rng = np.random.Generator
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIGNS = {
    "dollar sign": "$", "cent sign": "¢", "pound sign": "£", "yen sign": "¥", "euro sign": "€",
    "percent sign": "%", "ampersand": "&", "at sign": "@", "hash sign": "#", "asterisk": "*",
    "plus": "+", "minus": "−", "equals sign": "=", "question mark": "?", "exclamation mark": "!",
}  # fmt: skip
LETTER = "letter "
GLYPHS: dict[str, str] = {
    **{f"{LETTER}{upper}": upper + upper.lower() for upper in string.ascii_uppercase},
    **{name: str(digit) for digit, name in enumerate(DIGITS)},
    **SIGNS,
}
"""Name -> the characters that bear it."""
ALSO_CALLED = {
    **{f"{LETTER}{upper}": f"{LETTER}{upper.lower()}" for upper in string.ascii_uppercase},
    **{digit: f"number {digit}" for digit in DIGITS},
    "dollar sign": "currency dollar simple", "pound sign": "pound", "yen sign": "yen",
    "euro sign": "euro", "percent sign": "percent", "hash sign": "hash", "equals sign": "equals",
}  # fmt: skip
"""Name -> the icon sets' name, by which CLIP knows it."""
WEIGHTS = (400, 700)
POINTS = 150
OUTLINED = 0.45
"""Share of the glyphs that are drawn as an outline, empty or filled."""


@dataclass(frozen=True)
class Glyph:
    """A drawn character ``image`` (RGBA, cropped), its name and its ink's colour."""

    name: str
    colour: str
    image: Image.Image


@dataclass(frozen=True)
class Typefaces:
    """Font files that glyphs are drawn with."""

    files: tuple[Path, ...]

    @classmethod
    def fetched(cls, packages: Path) -> Typefaces:
        """The latin files of all sources of kind ``font``, fetched to ``packages``."""
        files: list[Path] = []
        for source in SOURCES:
            if source.kind == "font":
                start = f"{fetch(source, packages)}/files/{source.set_name}-latin"
                files += [Path(f"{start}-{weight}-normal.woff") for weight in WEIGHTS]
        return cls(tuple(file for file in files if file.is_file()))

    def draw(self, name: str, rng: Rng) -> Glyph:
        """A glyph of that name in any typeface; black half of the time."""
        characters = GLYPHS[name]
        character = characters[int(rng.integers(len(characters)))]
        font = _font(self.files[int(rng.integers(len(self.files)))])
        ink = "black" if rng.random() < 0.5 else _one(tuple(COLOURS), rng)
        outlined = ink == "white" or rng.random() < OUTLINED
        stroke = int(rng.integers(3, 10)) if outlined else 0
        fill: tuple[int, ...] = shade(ink, rng)
        edge = fill
        if stroke:
            edge = (0, 0, 0) if rng.random() < 0.7 else tuple(v // 2 for v in fill)
            fill = (255, 255, 255) if rng.random() < 0.6 else fill
        image = Image.new("RGBA", (3 * POINTS, 3 * POINTS), (*edge, 0))
        ImageDraw.Draw(image).text(
            (POINTS, POINTS // 2), character, font=font, fill=(*fill, 255),
            stroke_width=stroke, stroke_fill=(*edge, 255),
        )  # fmt: skip
        said = "white" if fill == (255, 255, 255) else ink
        return Glyph(name, said, image.crop(image.getchannel("A").getbbox() or (0, 0, 1, 1)))


@lru_cache(maxsize=128)
def _font(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), POINTS)


def _one(names: tuple[str, ...], rng: Rng) -> str:
    return names[int(rng.integers(len(names)))]
