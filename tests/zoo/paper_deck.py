"""A deck of two dozen made-up drawings in memory: enough to cast scenes from, nothing rendered."""

import numpy as np
from zoo.deck import Deck
from zoo.drawings import Drawing, Gallery

NAMES = {
    ("animals-nature", "animal-mammal"): ("cat", "dog", "horse", "cow", "lion"),
    ("animals-nature", "animal-bird"): ("owl", "duck", "chicken"),
    ("animals-nature", "animal-bug"): ("honeybee", "butterfly"),
    ("food-drink", "food-fruit"): ("banana", "pear", "lemon", "grapes"),
    ("food-drink", "drink"): ("teapot",),
    ("travel-places", "transport-ground"): ("bus", "bicycle", "tractor", "wheel"),
    ("travel-places", "time"): ("one-thirty",),
    ("objects", "tool"): ("hammer", "ladder", "axe"),
    ("objects", "clothing"): ("ring", "scarf"),
}
KEYWORDS = {"lemon": ("fruit", "pear drop")}
"""A lemon may be taken for a pear here."""


def paper_deck() -> Deck:
    """Every drawing a plain square of some grey with a hole."""
    drawings, pixels = [], []
    for (group, subgroup), names in NAMES.items():
        for name in names:
            number = len(drawings)
            words = KEYWORDS.get(name, ())
            drawings.append(
                Drawing(name, name, words, group, subgroup, "noto", "emoji", "MIT", f"{number:x}")
            )
            square = np.full((128, 128, 4), 255, np.uint8)
            square[:, :, :3] = 40 + 7 * number
            square[20:40, 20:40, 3] = 0
            pixels.append(square)
    return Deck(Gallery(tuple(drawings), np.stack(pixels)))
