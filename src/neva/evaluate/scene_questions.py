"""The questions about a test scene; their answers follow from its layout.

The wordings are those in which the default model was taught (`zoo/scene_questions.py`): what is
tested is the eye, not the reading. Answers are balanced over the set, form by form.
"""

import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from neva.evaluate.scene_layout import OPPOSITE, Actor, Layout, Side, outermost, pairs

SIDES: tuple[Side, ...] = ("left", "above", "right", "below")
LINK: dict[Side, str] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}
WHERE: dict[Side, str] = {
    "left": "on the left",
    "right": "on the right",
    "above": "at the top",
    "below": "at the bottom",
}
Choice = TypeVar("Choice", bound=Hashable)


@dataclass(frozen=True)
class Asked:
    """A question; questions of one `form` have the same possible answers."""

    kind: str
    form: str
    question: str
    golds: tuple[str, ...]


@dataclass
class Balance:
    """Deals answers so that each is as frequent as the others of its form."""

    dealt: Counter[tuple[str, Hashable]] = field(default_factory=Counter)

    def pick(self, form: str, choices: Sequence[Choice], rng: random.Random) -> Choice:
        """The rarest of the choices so far; among equals by chance."""
        least = min(self.dealt[form, choice] for choice in choices)
        picked = rng.choice([one for one in choices if self.dealt[form, one] == least])
        self.dealt[form, picked] += 1
        return picked


def crowd_questions(
    layout: Layout, crowd: Actor, absent: dict[bool, Actor], balance: Balance, rng: random.Random
) -> list[Asked]:
    """How many of one drawing there are, and what is there."""
    count = sum(one.actor == crowd for one in layout.placed)
    many = f"How many pictures of {crowd.phrase} are there?"
    counted = Asked("count", "count of one", many, (str(count),))
    return [counted, presence(layout, absent, balance, rng)]


def mixed_questions(
    layout: Layout, absent: dict[bool, Actor], balance: Balance, rng: random.Random
) -> list[Asked]:
    """How many objects there are, what is there, where, and in which colours."""
    total = str(len(layout.placed))
    questions = [Asked("count", "count all", "How many objects are there?", (total,))]
    questions.append(presence(layout, absent, balance, rng))
    if len(layout.placed) > 1:
        questions += [whether_at(layout, balance, rng), which_side(layout, balance, rng)]
        questions += what_is_at(layout, balance, rng)
    questions += [
        Asked("color", "color", f"What color is the {one.actor.name}?", (one.actor.colour,))
        for one in layout.placed
        if one.actor.colour
    ]
    return questions


def presence(
    layout: Layout, absent: dict[bool, Actor], balance: Balance, rng: random.Random
) -> Asked:
    """Whether something is in the picture; as often a thing that is as one that is not."""
    there = rng.choice(layout.placed).actor
    plain = bool(there.colour)
    form = "presence of a shape" if plain else "presence of a thing"
    true = balance.pick(form, (True, False), rng)
    asked = there if true else absent[plain]
    question = f"Is there {article(asked.phrase)} in the picture?"
    return Asked("presence", form, question, ("yes" if true else "no",))


def whether_at(layout: Layout, balance: Balance, rng: random.Random) -> Asked:
    """Whether one object is on a side of another."""
    side = balance.pick("whether side", sides(layout), rng)
    one, other = rng.choice(pairs(layout, side))
    true = balance.pick(f"whether {side}", (True, False), rng)
    link = LINK[side if true else OPPOSITE[side]]
    question = f"Is the {one.actor.phrase} {link} the {other.actor.phrase}?"
    return Asked("side", "whether", question, ("yes" if true else "no",))


def which_side(layout: Layout, balance: Balance, rng: random.Random) -> Asked:
    """On which side of another one object is."""
    side = balance.pick("which side", sides(layout), rng)
    one, other = rng.choice(pairs(layout, side))
    form = "left or right" if side in ("left", "right") else "above or below"
    of = "of " if side in ("left", "right") else ""
    question = f"Is the {one.actor.phrase} {form} {of}the {other.actor.phrase}?"
    return Asked("side", form, question, (side,))


def what_is_at(layout: Layout, balance: Balance, rng: random.Random) -> list[Asked]:
    """What stands at one end of the scene, if one object alone does."""
    open_sides: list[Side] = [side for side in SIDES if outermost(layout, side) is not None]
    if not open_sides:
        return []
    side = balance.pick("what", open_sides, rng)
    one = outermost(layout, side)
    assert one is not None
    return [Asked("what", "what", f"What is {WHERE[side]}?", one.actor.names)]


def sides(layout: Layout) -> list[Side]:
    """The sides on which some object of the scene is of another."""
    return [side for side in SIDES if pairs(layout, side)]


def article(name: str) -> str:
    """The name after "a" or "an"."""
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
