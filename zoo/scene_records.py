"""Stage 2's scenes: places, sides, sizes, crowds, reasoning, all questions mixed, and riddles
without a picture.

Answers are balanced over all records, form by form (`zoo.balance`), since a scene that is not
understood is answered with what was told most: "yes", and "1" to any "how many pictures of".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from zoo import reasoning as think
from zoo.balance import Balance
from zoo.casting import Casting
from zoo.phrasing import article, listed, pick
from zoo.records import Example, Turn
from zoo.scene_questions import (
    HOW_MANY,
    MIXED_FORMS,
    THERE_FORMS,
    THINK_FORMS,
    TOTALS,
    Form,
    View,
    all_seen,
    ask_some,
    colour_of,
    count_all,
    count_same,
    describe_turn,
    shuffled,
)
from zoo.scenes import Actor, Placed, Scene, compose_scene
from zoo.side_questions import COMPARE_FORMS, END_FORMS, place
from zoo.size_questions import SIZE_FORMS, how_large, scales

Rng = np.random.Generator
DESCRIBED = 0.2
"""Share of the mixed scenes that are first described, and asked only once or twice then."""

NAMED = ("There are {} in a picture.", "In a picture I see {}.", "Think of {}.")
"""How a riddle begins."""
ENDS = 0.45
"""Share of the scenes that are asked what stands at their ends, instead of comparisons."""


@dataclass(frozen=True)
class ScenePlan:
    """How many records of each kind of scene, and how many turns one may have."""

    places: int = 1500
    sides: int = 1500
    crowds: int = 900
    reasoning: int = 900
    mixed: int = 1600
    totals: int = 0
    """Asked at once and only how many things there are: elsewhere that comes after other questions,
    and as a first one it was answered as "how many animals" is."""
    shown: int = 0
    """Asked at once what there is, by the questions that name a thing which is alone: in other
    records they never stood beside several, and of two things one was named (version 18)."""
    sizes: int = 0
    """Of two to four things of which one is far larger or smaller than the others."""
    riddles: int = 900
    turns: int = 5
    side_turns: int = 8


@dataclass
class SceneWriter:
    """Casts, composes and asks; what it has told so far decides what it asks next."""

    casting: Casting
    rng: Rng
    turns: int = 5
    side_turns: int = 8
    balance: Balance = field(default_factory=Balance)

    def places(self) -> Example:
        """Two to five things that are easy to name one time of two; only where they are."""
        source = self.casting.easy if self.rng.random() < 0.5 else self.casting.any
        cast: list[Actor] = []
        count = int(self.rng.choice([2, 3, 4, 5], p=[0.15, 0.3, 0.3, 0.25]))
        self.casting.add(cast, count, source, self.rng)
        return self._asked("places", cast, self._sides(), self.turns)

    def sides(self) -> Example:
        """Two to four plain shapes one time of two, else easy things; asked often who is on
        which side of whom, since comparing takes the LM far more questions than naming."""
        plain = self.rng.random() < 0.5
        cast: list[Actor] = []
        count = int(self.rng.choice([2, 3, 4], p=[0.3, 0.4, 0.3]))
        self.casting.add(cast, count, self.casting.shape if plain else self.casting.easy, self.rng)
        forms = shuffled((*COMPARE_FORMS, *COMPARE_FORMS, place), self.rng)
        return self._asked("sides", cast, forms, self.side_turns)

    def crowd(self) -> Example:
        """One to five copies of one thing, alone or among one or two others."""
        copies = int(self.balance.rarest("count same", TOTALS, self.rng))
        others = int(self.rng.integers(0, min(2, len(TOTALS) - copies) + 1))
        rest = shuffled((colour_of, count_same, *THERE_FORMS), self.rng)
        cast = self.casting.crowd(copies, others, self.rng)
        return self._asked("crowd", cast, [count_same, *rest], 3)

    def reasoning(self) -> Example:
        """The odd one out three times of four, else who can fly."""
        cast, forms = self._to_reason()
        return self._asked("reasoning", cast, [*forms, *shuffled(THERE_FORMS, self.rng)], 3)

    def riddle(self) -> Example:
        """The questions of reasoning about things that are named, not shown: sorting and counting
        what was named is the LM's part, and needs no picture to be learnt."""
        cast, forms = self._to_reason()
        row = [Placed(a.name, a.colour, (n, 0, n + 1, 1)) for n, a in enumerate(cast)]
        turns = ask_some(View(Scene((len(row), 1), tuple(row)), self.casting, self.balance,
                              self.rng), forms, 3)  # fmt: skip
        told = pick(NAMED, self.rng).format(listed([article(one.phrase) for one in row]))
        asked, answer = turns[0] if turns else (pick(HOW_MANY, self.rng), str(len(row)))
        return Example("riddle", ((f"{told}\n{asked}", answer), *turns[1:]))

    def _to_reason(self) -> tuple[list[Actor], list[Form]]:
        """A cast in any order, and what is asked of it: a count before the odd one out or after."""
        if self.rng.random() < 0.75:
            cast = self.casting.odd_one(self.rng)
            forms = [think.odd_one, *THINK_FORMS]
            if self.rng.random() < 0.5:
                forms = [think.count_sort, *forms]
        else:
            flying = int(self.balance.rarest("count flying", think.COUNTS[:4], self.rng))
            cast, forms = self.casting.flying(flying, self.rng), [think.count_flying]
        return [cast[int(n)] for n in self.rng.permutation(len(cast))], forms

    def mixed(self) -> Example:
        """One to five different things and every form of question."""
        cast = self.casting.different(int(self.rng.integers(1, 6)), self.rng)
        asked = shuffled((*MIXED_FORMS, *THINK_FORMS[:1], *self._sides()[:4]), self.rng)
        if self.rng.random() < DESCRIBED:
            return self._asked("scene", cast, asked, 2, described=True)
        return self._asked("scene", cast, asked, self.turns)

    def total(self) -> Example:
        """One to five different things; only how many there are."""
        count = int(self.balance.rarest("count all", TOTALS, self.rng))
        return self._asked("total", self.casting.different(count, self.rng), [count_all], 1)

    def shown(self) -> Example:
        """Two to four different things, all named at once; then nothing, or one other question."""
        count = int(self.rng.choice([2, 3, 4], p=[0.5, 0.35, 0.15]))
        more = [*self._sides()[:1], colour_of] if self.rng.random() < 0.4 else []
        return self._asked("shown", self.casting.different(count, self.rng), [all_seen, *more], 2)

    def sized(self) -> Example:
        """Two to four things of unequal size, asked in one of three ways: how large each is; which
        is larger; and what else there is, since a small thing beside a large one is easily missed.
        Mostly of things that are seldom named: who was taught with common ones alone compared 88 of
        100 of those rightly, and 64 of others (version 17).
        """
        source = self.casting.easy if self.rng.random() < 0.25 else self.casting.rare
        cast: list[Actor] = []
        count = int(self.rng.choice([2, 3, 4], p=[0.5, 0.3, 0.2]))
        self.casting.add(cast, count, source, self.rng)
        forms, dice = shuffled(SIZE_FORMS, self.rng), self.rng.random()
        if dice < 0.4:
            forms = [how_large] * 6 + forms[:1]
        elif dice < 0.6:
            more = (colour_of, colour_of, count_all, *THERE_FORMS, *self._sides()[:2])
            forms = [*forms[:2], *shuffled(more, self.rng)]
        sizes = scales(len(cast), self.rng)
        return self._asked("sizes", cast, forms, self.turns, sizes=sizes)

    def _sides(self) -> list[Form]:
        """Comparisons or, nearly half of the time, what stands at the ends."""
        return shuffled(END_FORMS if self.rng.random() < ENDS else COMPARE_FORMS, self.rng)

    def _asked(
        self, kind: str, cast: Sequence[Actor], forms: Sequence[Form], most: int,
        described: bool = False, sizes: Sequence[float] | None = None,
    ) -> Example:  # fmt: skip
        picture, scene = compose_scene(cast, self.rng, sizes)
        view = View(scene, self.casting, self.balance, self.rng)
        turns: list[Turn] = [describe_turn(scene, self.rng)] if described else []
        turns += ask_some(view, forms, most) or ask_some(view, COMPARE_FORMS, most)
        return Example(kind, tuple(turns or [describe_turn(scene, self.rng)]), picture)


def scene_examples(casting: Casting, plan: ScenePlan, rng: Rng) -> list[Example]:
    """All records of scenes, kind by kind; a function of the plan and the generator."""
    writer = SceneWriter(casting, rng, plan.turns, plan.side_turns)
    kinds = (
        (writer.places, plan.places),
        (writer.sides, plan.sides),
        (writer.crowd, plan.crowds),
        (writer.reasoning, plan.reasoning),
        (writer.mixed, plan.mixed),
        (writer.total, plan.totals),
        (writer.riddle, plan.riddles),
        (writer.sized, plan.sizes),
        (writer.shown, plan.shown),
    )
    return [make() for make, count in kinds for _ in range(count)]
