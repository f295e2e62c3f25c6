"""Who stands in a scene together, and what is asked for in vain.

No two things of a scene can be taken for each other: neither's name is a word or keyword of the
other. Two plain shapes may share their kind or their colour, not both. What is absent is often
near: the form or the colour of a shape that is there, or a thing of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from zoo.colours import COLOURS, DRAWN, Shape
from zoo.deck import Deck
from zoo.naming import drawn
from zoo.phrasing import each
from zoo.reasoning import FLYERS, SORTS, may_fly, sort_named
from zoo.scenes import Actor, Scene, Who, shape_actor

COMMON = each(
    "dog,cat,horse,cow,pig,rabbit,mouse,bear,lion,tiger,elephant,giraffe,monkey,fox,frog,fish,"
    "dolphin,whale,shark,octopus,crab,bird,duck,owl,penguin,chicken,butterfly,honeybee,snail,"
    "spider,snake,turtle,banana,grapes,cherries,strawberry,lemon,pear,pineapple,watermelon,"
    "carrot,tomato,potato,bread,pizza,hamburger,hot dog,sandwich,cookie,doughnut,ice cream,"
    "birthday cake,candy,egg,mushroom,sunflower,rose,tulip,cactus,deciduous tree,automobile,bus,"
    "bicycle,airplane,helicopter,rocket,sailboat,tractor,house,key,bell,umbrella,balloon,guitar,"
    "drum,trumpet,hammer,scissors,pencil,camera,television,telephone,chair,bed,door,soccer ball,"
    "basketball,wrapped gift,crown,t-shirt,glasses,books,envelope,light bulb,candle"
)
"""Names that are said often: with them a scene is about places, not about rare words."""
ALIKE = (
    frozenset(("circle", "ellipse")),
    frozenset(("square", "rectangle")),
    frozenset(("square", "diamond")),
)
"""Kinds that the same figure can bear."""
Rng = np.random.Generator


class Casting:
    """Chooses actors from a deck; every draw is by the generator it is given."""

    def __init__(self, deck: Deck) -> None:
        self.deck = deck
        known = {name: deck.kind_of(name) for name in deck.objects}
        self.things = [name for name, (_, kind) in known.items() if kind != "time"]
        self.common = [name for name in self.things if name in COMMON] or self.things
        self.sorts = {sort: [n for n in self.things if sort_named(n, deck.kind_of) == sort]
                      for sort in SORTS}  # fmt: skip
        self.flyers = [name for name in self.things if name in FLYERS]
        self.grounded = [n for n in self.sorts["animal"] if not may_fly(n, deck.kind_of)]

    def shape(self, rng: Rng) -> Actor:
        """A plain coloured shape."""
        return shape_actor(self.deck.plain_shape(rng), rng)

    def thing(self, name: str, rng: Rng) -> Actor:
        """A thing by any artist, half of the time redrawn by another hand."""
        return Actor(name, "", drawn(self.deck, self.deck.one_of(name, rng), rng))

    def any(self, rng: Rng) -> Actor:
        """A shape, a common thing or any thing."""
        dice = rng.random()
        if dice < 0.4:
            return self.shape(rng)
        return self.thing(_one(self.common if dice < 0.6 else self.things, rng), rng)

    def easy(self, rng: Rng) -> Actor:
        """A shape or a common thing."""
        return self.shape(rng) if rng.random() < 0.5 else self.thing(_one(self.common, rng), rng)

    def rare(self, rng: Rng) -> Actor:
        """A shape one time of three, else any thing, of which one in seven is common."""
        return self.shape(rng) if rng.random() < 1 / 3 else self.thing(_one(self.things, rng), rng)

    def of(self, sort: str, rng: Rng) -> Actor:
        """An animal, something to eat, a vehicle or a shape."""
        if sort == "shape":
            return self.shape(rng)
        known = [n for n in self.sorts[sort] if n in COMMON]
        return self.thing(_one(known if known and rng.random() < 0.5 else self.sorts[sort], rng),
                          rng)  # fmt: skip

    def add(self, cast: list[Actor], count: int, source: Callable[[Rng], Actor], rng: Rng) -> None:
        """Draw ``count`` more actors who cannot be taken for one of the cast."""
        for _ in range(count):
            actor = source(rng)
            for _ in range(50):
                if not any(self.akin(actor.who, other.who) for other in cast):
                    break
                actor = source(rng)
            else:
                return  # a deck of a few drawings: the scene is smaller
            cast.append(actor)

    def different(self, count: int, rng: Rng) -> list[Actor]:
        """Different actors, all of them easy one time of two."""
        cast: list[Actor] = []
        self.add(cast, count, self.easy if rng.random() < 0.5 else self.any, rng)
        return cast

    def crowd(self, copies: int, others: int, rng: Rng) -> list[Actor]:
        """Copies of one actor and some others."""
        cast = [self.any(rng)]
        self.add(cast, others, self.any, rng)
        return [cast[0]] * copies + cast[1:]

    def odd_one(self, rng: Rng) -> list[Actor]:
        """Two to four of one sort and one of another."""
        full = [sort for sort in SORTS if sort == "shape" or self.sorts[sort]]
        many, one = (full[int(n)] for n in rng.permutation(len(full))[:2])
        cast: list[Actor] = []
        self.add(cast, int(rng.integers(2, 5)), lambda r: self.of(many, r), rng)
        self.add(cast, 1, lambda r: self.of(one, r), rng)
        return cast

    def flying(self, count: int, rng: Rng) -> list[Actor]:
        """So many that can fly, and animals that cannot."""
        cast: list[Actor] = []
        if self.flyers:
            self.add(cast, count, lambda r: self.thing(_one(self.flyers, r), r), rng)
        rest = int(rng.integers(max(1, 2 - count), max(3, 5 - count)))
        pool = self.grounded or self.things
        self.add(cast, rest, lambda r: self.thing(_one(pool, r), r), rng)
        return cast

    def akin(self, one: Who, other: Who) -> bool:
        """Whether one could be taken for the other, by name."""
        (name, colour), (other_name, other_colour) = one, other
        if colour and other_colour:
            same = name == other_name or frozenset((name, other_name)) in ALIKE
            return same and colour == other_colour
        words, others = set(name.split()), set(other_name.split())
        return bool(words & (others | self._keywords(other)) or others & self._keywords(one))

    def _keywords(self, who: Who) -> frozenset[str]:
        return frozenset() if who[1] else self.deck.keywords_of(who[0])

    def confused(self, kind: str, scene: Scene) -> bool:
        """Whether something in a scene could be taken for a shape of a kind, in any colour."""
        return any(self.akin((kind, o.colour or "any"), o.who) for o in scene.objects)

    def absent_shape(self, scene: Scene, rng: Rng) -> Shape:
        """A shape that is not there: with the kind or the colour of one that is, or any."""
        there = [o for o in scene.objects if o.colour]
        colours = [c for c in COLOURS if c != "white"]
        while True:
            shape = self.deck.plain_shape(rng)
            if there and rng.random() < 0.75:
                near = there[int(rng.integers(len(there)))]
                kind = near.name if rng.random() < 0.5 else ""
                shape = Shape(kind or _one(DRAWN, rng), _one(colours, rng) if kind else near.colour)
            if not self._seen((shape.kind, shape.colour), scene):
                return shape

    def absent_thing(self, scene: Scene, rng: Rng) -> str:
        """The name of a thing that is not there, often of the subgroup of one that is."""
        there = [o.name for o in scene.objects if not o.colour]
        for _ in range(200):
            pool = self.common if rng.random() < 0.5 else self.things
            if there and rng.random() < 0.5:
                group = self.deck.kind_of(_one(there, rng))
                pool = [n for n in self.things if self.deck.kind_of(n) == group] or pool
            name = _one(pool, rng)
            if not self._seen((name, ""), scene):
                return name
        return next(name for name in self.things if name not in there)

    def _seen(self, who: Who, scene: Scene) -> bool:
        return any(self.akin(who, placed.who) for placed in scene.objects)


def _one(names: Sequence[str], rng: Rng) -> str:
    return names[int(rng.integers(len(names)))]
