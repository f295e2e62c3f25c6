"""Questions about places in a scene: is one left of the other, which stands at an end, where.

Two things are compared where one is clearly on that side: by half of their mean size or more.
Yes and no, left and right, above and below are told equally often, form by form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zoo.balance import Asked
from zoo.phrasing import pick
from zoo.scenes import Placed, Scene, side_of, third_of

if TYPE_CHECKING:
    from zoo.scene_questions import View

GENERAL_AT_ENDS = 0.36
"""How often what stands at an end is called by its general word."""
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
WHETHER = {
    "left": (
        "Is the {} to the left of the {}?",
        "Is the {} left of the {}?",
        "Is the {} further left than the {}?",
    ),
    "right": (
        "Is the {} to the right of the {}?",
        "Is the {} right of the {}?",
        "Is the {} further right than the {}?",
    ),
    "above": ("Is the {} above the {}?", "Is the {} higher than the {}?"),
    "below": ("Is the {} below the {}?", "Is the {} lower than the {}?"),
}
"""Side -> wordings that are answered with yes or no."""
WHICH = {
    "left": (
        "Is the {} left or right of the {}?",
        "Is the {} to the right or to the left of the {}?",
        "On which side of the {1} is the {0}, left or right?",
    ),
    "above": (
        "Is the {} above or below the {}?",
        "Is the {} below or above the {}?",
        "Where is the {}, above or below the {}?",
    ),
}
"""First side of an axis -> wordings that are answered with one of its two sides."""
AT_END = {
    "left": ("What is on the left?", "What is the leftmost object?", "What is furthest left?"),
    "right": ("What is on the right?", "What is the rightmost object?", "What is furthest right?"),
    "above": ("What is at the top?", "What is the topmost object?", "What is highest?"),
    "below": ("What is at the bottom?", "What is the lowest object?", "What is lowest?"),
}
PLACE = ("Where is the {}?", "Where in the picture is the {}?")


def unique(scene: Scene) -> list[Placed]:
    """The objects whose phrase no other object has."""
    phrases = [o.phrase for o in scene.objects]
    return [o for o in scene.objects if phrases.count(o.phrase) == 1]


def pairs(scene: Scene, side: str) -> list[tuple[Placed, Placed]]:
    """All (one, other) with one clearly on that side of the other."""
    alone = unique(scene)
    return [(a, b) for a in alone for b in alone if a is not b and side in side_of(a, b)]


def compared(side: str, one: Placed, other: Placed) -> str:
    """What a comparison gives away: the order of these two on this axis."""
    axis = "across" if side in ("left", "right") else "along"
    return " | ".join((axis, *sorted((one.phrase, other.phrase))))


def compare(
    view: View, form: str, wordings: tuple[str, ...], side: str, answer: str
) -> Asked | None:
    """A question about two things of which one is on that side of the other, if there are such."""
    found = pairs(view.scene, side)
    if not found:
        return None
    one, other = found[int(view.rng.integers(len(found)))]
    question = pick(wordings, view.rng).format(one.phrase, other.phrase)
    return Asked(form, question, answer, compared(side, one, other))


def whether(side: str) -> Callable[[View], Asked | None]:
    """Asks if one thing is on that side of another; as often true as not."""

    def ask(view: View) -> Asked | None:
        answer = view.balance.rarest(f"whether {side}", ("yes", "no"), view.rng)
        true = side if answer == "yes" else OPPOSITE[side]
        return compare(view, f"whether {side}", WHETHER[side], true, answer)

    return ask


def which(first: str) -> Callable[[View], Asked | None]:
    """Asks on which of an axis's two sides one thing is of another."""

    def ask(view: View) -> Asked | None:
        side = view.balance.rarest(f"which {first}", (first, OPPOSITE[first]), view.rng)
        return compare(view, f"which {first}", WHICH[first], side, side)

    return ask


def at_end(side: str) -> Callable[[View], Asked | None]:
    """Asks what stands on that side of all others."""

    def ask(view: View) -> Asked | None:
        one = outermost(view.scene, side)
        if one is None:
            return None
        others = [o for o in view.scene.objects if o is not one]
        told = compared(side, one, others[0]) if len(others) == 1 else f"end {side}"
        return Asked(f"end {side}", pick(AT_END[side], view.rng), called(view, one), told)

    return ask


def called(view: View, one: Placed) -> str:
    """A thing's name, or now and then its general word: things of scenes are small, and none of
    their names is sure (`zoo.general`)."""
    general = "" if one.colour else view.casting.deck.general_of(one.name)
    return general if general and view.rng.random() < GENERAL_AT_ENDS else one.phrase


def outermost(scene: Scene, side: str) -> Placed | None:
    """The object clearly on that side of every other; None where there is none or no other."""
    for one in scene.objects:
        others = [o for o in scene.objects if o is not one]
        if others and all(side in side_of(one, other) for other in others):
            return one
    return None


def place(view: View) -> Asked | None:
    """Asks in which part of the picture something is."""
    alone = unique(view.scene)
    if not alone:
        return None
    one = alone[int(view.rng.integers(len(alone)))]
    question = pick(PLACE, view.rng).format(one.phrase)
    return Asked("place", question, third_of(view.scene, one), f"place {one.phrase}")


COMPARE_FORMS = (
    *(whether(side) for side in OPPOSITE),
    *(which(first) for first in WHICH for _ in range(2)),
)
"""Yes or no four times, which of two sides four times."""
END_FORMS = tuple(at_end(side) for side in OPPOSITE)
"""What stands at an end: not beside comparisons, since it answers them."""
