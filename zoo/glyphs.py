"""Letters, digits and signs in thirty typefaces, music's and chess's: what they are called and how
they are drawn.

Upper and lower case bear one name, since many a pair differs by its size alone.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
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
MARKED = {
    "letter A with an umlaut": "Ää", "letter O with an umlaut": "Öö",
    "letter U with an umlaut": "Üü", "letter N with a tilde": "Ññ", "letter C with a cedilla": "Çç",
    "letter E with an accent": "ÉéÈèÊê", "letter A with an accent": "ÁáÀàÂâ", "sharp S": "ß",
}  # fmt: skip
MUSIC = {
    "treble clef": "\U0001d11e", "bass clef": "\U0001d122", "alto clef": "\U0001d121",
    "whole note": "\U0001d15d", "half note": "\U0001d15e", "quarter note": "\U0001d15f\u2669",
    "eighth note": "\U0001d160\u266a", "sixteenth note": "\U0001d161",
    "beamed eighth notes": "\u266b", "half rest": "\U0001d13c", "quarter rest": "\U0001d13d",
    "eighth rest": "\U0001d13e", "flat": "\u266d", "natural": "\u266e", "sharp": "\u266f",
}  # fmt: skip
"""Unicode's names, as a musician says them."""
CHESS = {
    f"chess {piece}": chr(0x2654 + n) + chr(0x265A + n)
    for n, piece in enumerate(("king", "queen", "rook", "bishop", "knight", "pawn"))
}
GLYPHS: dict[str, str] = {
    **{f"{LETTER}{upper}": upper + upper.lower() for upper in string.ascii_uppercase},
    **{name: str(digit) for digit, name in enumerate(DIGITS)},
    **SIGNS,
    **MARKED,
    **MUSIC,
    **CHESS,
}
"""Name -> the characters that bear it."""
ALSO_CALLED = {
    **{f"{LETTER}{upper}": f"{LETTER}{upper.lower()}" for upper in string.ascii_uppercase},
    **{digit: f"number {digit}" for digit in DIGITS},
    "dollar sign": "currency dollar simple", "pound sign": "pound", "yen sign": "yen",
    "euro sign": "euro", "percent sign": "percent", "hash sign": "hash", "equals sign": "equals",
}  # fmt: skip
"""Name -> the icon sets' name, by which CLIP knows it."""
OF_THEIR_OWN = {
    **dict.fromkeys(MUSIC, "noto-music-music"),
    **dict.fromkeys(CHESS, "noto-sans-symbols-2-symbols"),
}
"""Name -> the start of the file of the only typeface that has it."""
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
    """Font files that glyphs are drawn with; ``own``: those of the signs of music and of chess, by
    the starts of their names."""

    files: tuple[Path, ...]
    own: dict[str, Path]

    @classmethod
    def fetched(cls, packages: Path) -> Typefaces:
        """The latin files of all sources of kind ``font``, fetched to ``packages``."""
        files: list[Path] = []
        own: dict[str, Path] = {}
        for source in SOURCES:
            if source.kind != "font":
                continue
            folder = fetch(source, packages) / "files"
            starts = [s for s in set(OF_THEIR_OWN.values()) if s.startswith(source.set_name)]
            own |= {start: folder / f"{start}-400-normal.woff" for start in starts}
            if not starts:
                latin = f"{source.set_name}-latin"
                files += [folder / f"{latin}-{weight}-normal.woff" for weight in WEIGHTS]
        return cls(tuple(file for file in files if file.is_file()), own)

    def file_of(self, name: str, rng: Rng) -> Path:
        """The font file to draw a glyph of that name with."""
        start = OF_THEIR_OWN.get(name)
        return self.own[start] if start else self.files[int(rng.integers(len(self.files)))]

    def draw(self, name: str, rng: Rng) -> Glyph:
        """A glyph of that name in any typeface; black half of the time."""
        characters = GLYPHS[name]
        character = characters[int(rng.integers(len(characters)))]
        font = _font(self.file_of(name, rng))
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

    def each(self, times: int, rng: Rng) -> Iterator[Glyph]:
        """All glyphs, each so many times."""
        for name in GLYPHS:
            for _ in range(times):
                yield self.draw(name, rng)


@lru_cache(maxsize=128)
def _font(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), POINTS)


def _one(names: tuple[str, ...], rng: Rng) -> str:
    return names[int(rng.integers(len(names)))]
