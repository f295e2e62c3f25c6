"""The drawings as a deck to deal from: by concept, by kind, and those fit to stand in a scene."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.clip_data import MONO_INKS, held_out, usable
from zoo.colours import COLOURS, DRAWN, SHAPES, Shape, shade
from zoo.drawings import Drawing, Gallery
from zoo.general import general_of
from zoo.names import says_colour
from zoo.scenes import cut_out

OBJECT_GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
PLAIN_INKS = (
    "red",
    "green",
    "blue",
    "yellow",
    "teal",
    "brown",
    "black",
    "orange",
    "purple",
    "pink",
)
PLAIN = ("circle", "square", "heart", "diamond", "triangle")
"""The shapes that are emoji."""
KINDS = {
    "animal-mammal": "mammal",
    "animal-bird": "bird",
    "animal-amphibian": "amphibian",
    "animal-reptile": "reptile",
    "animal-marine": "sea animal",
    "animal-bug": "insect",
    "plant-flower": "flower",
    "plant-other": "plant",
    "food-fruit": "fruit",
    "food-vegetable": "vegetable",
    "food-prepared": "prepared food",
    "food-asian": "Asian food",
    "food-sweet": "sweet",
    "drink": "drink",
    "dishware": "dishware",
    "place-building": "building",
    "place-religious": "religious building",
    "transport-ground": "land vehicle",
    "transport-water": "watercraft",
    "transport-air": "aircraft",
    "time": "clock or time",
    "sky-weather": "sky or weather",
    "award-medal": "medal",
    "sport": "sport",
    "game": "game",
    "clothing": "clothing",
    "music": "music",
    "musical-instrument": "musical instrument",
    "phone": "phone",
    "computer": "computer",
    "book-paper": "book or paper",
    "money": "money",
    "mail": "mail",
    "writing": "writing tool",
    "office": "office supply",
    "lock": "lock or key",
    "tool": "tool",
    "science": "science",
    "medical": "medical",
    "household": "household item",
    "arrow": "arrow",
    "zodiac": "zodiac sign",
    "heart": "heart",
    "cat-face": "cat face",
    "monkey-face": "monkey",
    "face-smiling": "smiling face",
    "face-negative": "angry face",
    "face-unwell": "unwell face",
    "hand-fingers-closed": "hand",
    "hand-single-finger": "hand",
    "hand-fingers-open": "hand",
    "hands": "hands",
    "body-parts": "body part",
    "person-role": "person with a job",
    "person-fantasy": "fantasy person",
    "person-sport": "person doing sport",
    "country-flag": "flag",
    "subdivision-flag": "flag",
    "transport-sign": "sign",
    "warning": "warning sign",
    "keycap": "keycap",
}
"""CLDR subgroup -> the kind that a short answer names."""


class Deck:
    """Deals drawings; every draw is by the generator it is given."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self.by_concept: dict[str, list[int]] = defaultdict(list)
        self.by_group: dict[str, list[str]] = defaultdict(list)
        self.kinds: dict[str, list[int]] = defaultdict(list)
        self.strange: list[int] = []
        """Rows that CLIP never saw."""
        for i, d in enumerate(gallery.drawings):
            if usable(d) and d.group != "component":
                self.kinds[d.kind].append(i)
                if d.kind in ("emoji", "flag") and d.codepoint:
                    self.by_concept[d.concept].append(i)
                    if held_out(d):
                        self.strange.append(i)
        for concept, rows in sorted(self.by_concept.items()):
            self.by_group[gallery.drawings[rows[0]].group].append(concept)
        self.concepts = sorted(self.by_concept)
        self.objects = [
            c
            for g in OBJECT_GROUPS
            for c in self.by_group[g]
            if len(c.split()) <= 2 and ":" not in c and not says_colour(c)
        ]

    @classmethod
    def open(cls, work: Path) -> Deck:
        """The deck of the training gallery."""
        return cls(Gallery.open(work / "drawings"))

    def drawing(self, row: int) -> Drawing:
        """The table's row."""
        return self.gallery.drawings[row]

    def kind_of(self, name: str) -> tuple[str, str]:
        """A concept's CLDR group and subgroup; both "" for what is no emoji."""
        rows = self.by_concept.get(name)
        return (self.drawing(rows[0]).group, self.drawing(rows[0]).subgroup) if rows else ("", "")

    def general_of(self, concept: str) -> str:
        """A concept's general word, or "" (`zoo.general`)."""
        rows = self.by_concept.get(concept)
        return general_of(self.drawing(rows[0])) if rows else ""

    def keywords_of(self, concept: str) -> frozenset[str]:
        """All words of a concept's keywords."""
        return frozenset(" ".join(self.drawing(self.by_concept[concept][0]).keywords).split())

    def one_of(self, concept: str, rng: np.random.Generator) -> int:
        """A row of the concept, by any artist."""
        rows = self.by_concept[concept]
        return rows[int(rng.integers(len(rows)))]

    def image(self, row: int, ink: str = "", rng: np.random.Generator | None = None) -> Image.Image:
        """The cut-out; mono art in the named ink."""
        solid = shade(ink, rng) if ink and rng is not None else None
        return cut_out(self.gallery.pixels[row], solid)

    @staticmethod
    def plain_shape(rng: np.random.Generator) -> Shape:
        """A shape in any colour but white, which a white page would hide."""
        dice = rng.random()
        kinds = SHAPES[:3] if dice < 0.3 else PLAIN if dice < 0.7 else DRAWN
        kind = kinds[int(rng.integers(len(kinds)))]
        names = [c for c in COLOURS if c != "white"]
        return Shape(kind, names[int(rng.integers(len(names)))])

    @staticmethod
    def ink(rng: np.random.Generator) -> str:
        """The ink of a mono icon; half of them black."""
        return MONO_INKS[0] if rng.random() < 0.4 else PLAIN_INKS[int(rng.integers(10))]

    def other_than(self, drawing: Drawing, rng: np.random.Generator) -> str:
        """A wrong name: half of the time from the same group."""
        near = [c for c in self.by_group.get(drawing.group, ()) if c != drawing.concept]
        pool = near if near and rng.random() < 0.5 else self.concepts
        while True:
            name = pool[int(rng.integers(len(pool)))]
            if name != drawing.concept:
                return name
