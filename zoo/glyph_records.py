"""Stage 2's letters, digits and signs: which it is, what kind of sign, in which colour."""

from __future__ import annotations

import numpy as np

from zoo import phrasing as say
from zoo.glyphs import CHESS, DIGITS, GLYPHS, LETTER, Typefaces
from zoo.records import Example, Turn
from zoo.scenes import single

Rng = np.random.Generator
WHICH = {
    "a letter": ("Which letter is this?", "What letter is it?", "Read the letter."),
    "a digit": ("Which digit is this?", "What number is it?", "Read the number."),
}
"""Kind -> questions for the bare character."""
SAID = {name: name.removeprefix("chess ") for name in CHESS} | {"equals sign": "equals"}
"""Name -> what a person says who is asked what this is: *king*, not Unicode's *chess king*; and
*equals*, as *plus* and *minus* are said."""
GAME = ("Which game is it from?", "Of which game is this a piece?")
KIND = ("Is it a letter or a digit?", "Is this a digit or a letter?")


def glyph_example(typefaces: Typefaces, name: str, rng: Rng) -> Example:
    """One glyph: its name, two times of five with more questions."""
    glyph = typefaces.draw(name, rng)
    picture, _ = single(glyph.image, name, rng)
    turns: list[Turn] = [(say.name_question(rng), SAID.get(name, name))]
    if rng.random() < 0.4:
        more: list[Turn] = [(say.pick(say.COLOUR_ART, rng), glyph.colour)]
        kind = "a letter" if name.startswith(LETTER) else "a digit" if name in DIGITS else ""
        if kind:
            read = GLYPHS[name][0]
            more += [(say.pick(WHICH[kind], rng), read), (say.pick(KIND, rng), kind)]
        if name in CHESS:
            more.append((say.pick(GAME, rng), "chess"))
        turns += [more[int(n)] for n in rng.permutation(len(more))]
    return Example("glyph", tuple(turns), picture)


def glyph_examples(typefaces: Typefaces, count: int, rng: Rng) -> list[Example]:
    """Every name in turn."""
    names = tuple(GLYPHS)
    return [glyph_example(typefaces, names[n % len(names)], rng) for n in range(count)]
