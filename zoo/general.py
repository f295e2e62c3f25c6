"""What a person calls a thing whose own name is not sure: an animal, a face, a man.

A name that is not sure is better left general than invented, as people do (the basic level of
Rosch et al. 1976). Stage 2 learns where its own names end from drawings that CLIP never saw
(`zoo.clip_data.held_out`): of these it is told the general word in one answer of `GENERAL_SHARE`,
and the name in the others. Where the tokens say one thing clearly the name stays the likelier
answer; where they could mean ten things the general word, which all ten share, is likelier than
any of their names.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.drawings import Drawing

GENERAL_SHARE = 0.3
"""A name is said as long as it is sure by more than some .3 / .7, that is .43, of how sure the
general word is."""
FAMILY, FAMILY_SHARE = "family", 0.75
"""Families are told apart by who stands in them, which nobody does who is asked what this is."""
GENERAL = (
    FAMILY, "boy", "girl", "man", "woman", "child", "person", "hand", "heart",
    "bird", "insect", "animal", "face", "flower", "tree", "plant",
    "fruit", "vegetable", "dessert", "drink", "food",
    "clock", "moon", "building", "boat", "train", "bus", "car", "vehicle", "weather",
    "ball", "medal", "card", "game", "instrument", "shoe", "clothing", "tool", "computer", "book",
    "lock", "mail", "money", "keycap", "arrow", "square", "circle", "triangle", "button", "sign",
)  # fmt: skip
"""The first of these that is among a concept's CLDR keywords is its general word."""
NO_GENERAL = ("flags", "component", "")
"""Groups of which no general word says anything: every flag is a flag."""


def general_word(concept: str, keywords: Sequence[str], group: str) -> str:
    """The general word of a concept; "" where there is none, or where it is the name itself."""
    if group in NO_GENERAL:
        return ""
    known = {word.lower() for word in keywords}
    found = next((word for word in GENERAL if word in known), "")
    return "" if found == concept.lower() else found


def share_of(word: str, strange: bool) -> float:
    """How often a drawing, ``strange`` if CLIP never saw it, is called by its general word."""
    if word == FAMILY:
        return FAMILY_SHARE
    return GENERAL_SHARE if word and strange else 0.0


def general_of(drawing: Drawing) -> str:
    """The general word of what is drawn."""
    return general_word(drawing.concept, drawing.keywords, drawing.group)
