"""Questions about sizes in a scene: is one larger than another, which of two is, which of all, and
how large each is.

A thing is as large as the longer side of its box, and two are compared where one is `CLEAR` times
as large as the other or more. Yes and no, larger and smaller, large and small are told equally
often, form by form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from zoo.balance import Asked
from zoo.phrasing import pick
from zoo.scenes import Placed, Scene
from zoo.side_questions import unique

if TYPE_CHECKING:
    from zoo.scene_questions import View

Rng = np.random.Generator
CLEAR = 1.4
"""From which ratio of their longer sides on two things differ in size."""
SMALL, LARGE = 0.19, 0.3
"""Up to and from which share of its picture's longer side on a thing is called small and large."""
RATIOS = (1.5, 3.2)
"""Least and most ratio of the large things' usual size to the small ones', before chance."""
HOW_LARGE = ("What size is the {}?", "How big is the {}?", "Is the {} large or small?")
OPPOSITE = {"larger": "smaller", "smaller": "larger"}
WHETHER = {
    "larger": ("Is the {} larger than the {}?", "Is the {} bigger than the {}?"),
    "smaller": ("Is the {} smaller than the {}?", "Is the {} smaller than the {}?"),
}
"""Which way -> wordings that are answered with yes or no."""
WHICH = {
    "larger": (
        "Which is larger, the {} or the {}?",
        "Which is bigger, the {} or the {}?",
        "What is larger, the {} or the {}?",
    ),
    "smaller": (
        "Which is smaller, the {} or the {}?",
        "Which is smaller, the {} or the {}?",
        "What is smaller, the {} or the {}?",
    ),
}
"""Which way -> wordings that are answered with one of the two."""
OF_ALL = {
    "larger": ("What is the largest object?", "What is the biggest thing?", "What is largest?"),
    "smaller": ("What is the smallest object?", "What is the smallest thing?", "What is smallest?"),
}


def scales(count: int, rng: Rng) -> list[float]:
    """By how much each of so many things is to differ from the usual size: one is large and the
    others are small, or the other way round; the ratio is drawn evenly by its logarithm."""
    ratio = float(np.exp(rng.uniform(*np.log(RATIOS))))
    large = rng.uniform(0.9, 1.5)
    one, others = (large, large / ratio) if rng.random() < 0.5 else (large / ratio, large)
    made = [others] * count
    made[int(rng.integers(count))] = one
    return made


def differs(way: str, one: Placed, other: Placed) -> bool:
    """Whether one is clearly larger, or smaller, than the other."""
    small, large = (other, one) if way == "larger" else (one, other)
    return large.length >= CLEAR * small.length


def pairs(scene: Scene, way: str) -> list[tuple[Placed, Placed]]:
    """All (one, other) of unique things with one clearly larger, or smaller, than the other."""
    alone = unique(scene)
    return [(a, b) for a in alone for b in alone if a is not b and differs(way, a, b)]


def told(one: Placed, other: Placed) -> str:
    """What a comparison gives away: which of these two is larger."""
    return " | ".join(("size", *sorted((one.phrase, other.phrase))))


def whether(way: str) -> Callable[[View], Asked | None]:
    """Asks if one thing is larger, or smaller, than another; as often true as not."""

    def ask(view: View) -> Asked | None:
        form = f"size whether {way}"
        answer = view.balance.rarest(form, ("yes", "no"), view.rng)
        found = pairs(view.scene, way if answer == "yes" else OPPOSITE[way])
        if not found:
            return None
        one, other = found[int(view.rng.integers(len(found)))]
        question = pick(WHETHER[way], view.rng).format(one.phrase, other.phrase)
        return Asked(form, question, answer, told(one, other))

    return ask


def which(way: str) -> Callable[[View], Asked | None]:
    """Asks which of two things is larger, or smaller; as often the first named as the second."""

    def ask(view: View) -> Asked | None:
        found = pairs(view.scene, way)
        if not found:
            return None
        one, other = found[int(view.rng.integers(len(found)))]
        first = view.rng.random() < 0.5
        named = (one, other) if first else (other, one)
        question = pick(WHICH[way], view.rng).format(*(o.phrase for o in named))
        return Asked(f"size which {way}", question, one.phrase, told(one, other))

    return ask


def of_all(way: str) -> Callable[[View], Asked | None]:
    """Asks what is clearly larger, or smaller, than everything else."""

    def ask(view: View) -> Asked | None:
        one = extreme(view.scene, way)
        if one is None:
            return None
        others = [o for o in view.scene.objects if o is not one]
        about = told(one, others[0]) if len(others) == 1 else f"size of all {way}"
        return Asked(f"size of all {way}", pick(OF_ALL[way], view.rng), one.phrase, about)

    return ask


def extreme(scene: Scene, way: str) -> Placed | None:
    """What is clearly larger, or smaller, than every other; None where nothing or no other is."""
    for one in scene.objects:
        others = [o for o in scene.objects if o is not one]
        if others and all(differs(way, one, other) for other in others):
            return one
    return None


def how_large(view: View) -> Asked | None:
    """Asks if something is large or small in its picture."""
    whole = max(view.scene.size)
    shares = {o: o.length / whole for o in unique(view.scene)}
    told = {o: "small" if share <= SMALL else "large" for o, share in shares.items()
            if share <= SMALL or share >= LARGE}  # fmt: skip
    if not told:
        return None
    rare = view.balance.rarest("size of", sorted(set(told.values())), view.rng)
    those = [o for o, size in told.items() if size == rare]
    one = those[int(view.rng.integers(len(those)))]
    question = pick(HOW_LARGE, view.rng).format(one.phrase)
    return Asked("size of", question, rare, f"size of {one.phrase}")


SIZE_FORMS = tuple(form(way) for way in OPPOSITE for form in (whether, which, of_all))
