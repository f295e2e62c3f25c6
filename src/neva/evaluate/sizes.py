"""Scenes of OpenMoji drawings of unequal size: which is larger, which is the smallest of all.

`data`, drawings, grids and the judge are those of the task `scenes`. 200 scenes of two to four
different ones, of which one is far larger than the others, or far smaller: the longer side of a
large one is at least 1.5 times that of a small one, so that no answer is a matter of taste. Three
questions each: is one larger (smaller) than another, which of two is, which of all.

The floor answers "yes", the first of the two that are named, and the commonest name (or keyword).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from neva.evaluate.scene_layout import Actor, Layout, Placed, lay_out
from neva.evaluate.scene_questions import Asked, Balance
from neva.evaluate.scenes import Scenes, cast, mixture
from neva.evaluate.task import Item

SEED = 21
COUNT = 200
LARGE, SMALL = (0.84, 0.94), (0.42, 0.56)
"""Longer sides as shares of the cell's; a large one is 1.5 to 2.2 times a small one."""
Way = Literal["larger", "smaller"]
OPPOSITE: dict[Way, Way] = {"larger": "smaller", "smaller": "larger"}
OF_ALL: dict[Way, str] = {"larger": "largest", "smaller": "smallest"}


@dataclass(frozen=True)
class Sizes(Scenes):
    """Kinds are whether, which and of all."""

    name: str = "sizes"
    summary: str = "Larger or smaller, in scenes of OpenMoji drawings; exact match."

    def compose(self, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Layout, list[Asked]]]:
        """All scenes with their questions; a function of the table and SEED."""
        shapes, things = cast(rows)
        rng, balance = random.Random(SEED), Balance()
        for number in range(COUNT):
            count = 2 + number % 3
            actors = mixture(count, min(count, number // 3 % 3), shapes, things, rng)
            layout, lone = unequal(actors, balance, rng)
            yield layout, questions(layout, lone, balance, rng)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """What needs no look: yes, the first that is named, the commonest name of a thing."""
        return super().floor([by_place(one) if one.kind == "which" else one for one in items])


def by_place(item: Item) -> Item:
    """A question about two things, answered by the place that the right one has in it."""
    first = item.question.partition(", the ")[2].partition(" or the ")[0]
    return replace(item, golds=("first" if first in item.golds else "second",))


def unequal(actors: Sequence[Actor], balance: Balance, rng: random.Random) -> tuple[Layout, Way]:
    """The actors on a grid, one of them of another size, and which way that one differs."""
    layout = lay_out(actors, rng)
    lone: Way = balance.pick(f"one of {len(actors)}", ("larger", "smaller"), rng)
    own, others = (LARGE, SMALL) if lone == "larger" else (SMALL, LARGE)
    chosen = rng.randrange(len(actors))
    placed = tuple(
        replace(one, scale=rng.uniform(*(own if place == chosen else others)))
        for place, one in enumerate(layout.placed)
    )
    return replace(layout, placed=placed), lone


def questions(layout: Layout, lone: Way, balance: Balance, rng: random.Random) -> list[Asked]:
    """One of each kind."""
    way: Way = balance.pick("way", ("larger", "smaller"), rng)
    return [whether(layout, way, balance, rng), which(layout, OPPOSITE[way], balance, rng),
            of_all(layout, lone)]  # fmt: skip


def pair(layout: Layout, rng: random.Random) -> tuple[Placed, Placed]:
    """A large one and a small one."""
    large = [one for one in layout.placed if one.scale >= LARGE[0]]
    small = [one for one in layout.placed if one.scale < LARGE[0]]
    return rng.choice(large), rng.choice(small)


def whether(layout: Layout, way: Way, balance: Balance, rng: random.Random) -> Asked:
    """Whether one is larger, or smaller, than another."""
    large, small = pair(layout, rng)
    true = balance.pick(f"whether {way}", (True, False), rng)
    one, other = (large, small) if (way == "larger") == true else (small, large)
    question = f"Is the {one.actor.phrase} {way} than the {other.actor.phrase}?"
    return Asked("whether", "whether", question, ("yes" if true else "no",))


def which(layout: Layout, way: Way, balance: Balance, rng: random.Random) -> Asked:
    """Which of two is larger, or smaller; the first that is named as often as the second."""
    large, small = pair(layout, rng)
    one, other = (large, small) if way == "larger" else (small, large)
    first = balance.pick(f"which {way}", (True, False), rng)
    named = [actor.actor.phrase for actor in ((one, other) if first else (other, one))]
    question = f"Which is {way}, the {named[0]} or the {named[1]}?"
    return Asked("which", "which", question, one.actor.names)


def of_all(layout: Layout, lone: Way) -> Asked:
    """Which is the largest, or the smallest, of all."""
    ends = [one for one in layout.placed if (one.scale >= LARGE[0]) == (lone == "larger")]
    (one,) = ends
    return Asked("of all", "of all", f"What is the {OF_ALL[lone]} object?", one.actor.names)
