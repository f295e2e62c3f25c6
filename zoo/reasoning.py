"""Simple reasoning about a scene: what can fly, what is food, the odd one out.

A thing's kind is its CLDR group; what flies is listed, since no group says it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zoo.phrasing import listed, pick
from zoo.records import Turn
from zoo.scenes import Placed, Scene

FLYERS = frozenset(
    (
        "airplane",
        "bat",
        "bee",
        "beetle",
        "bird",
        "black bird",
        "butterfly",
        "dove",
        "duck",
        "eagle",
        "flamingo",
        "fly",
        "flying saucer",
        "goose",
        "helicopter",
        "honeybee",
        "lady beetle",
        "mosquito",
        "owl",
        "parrot",
        "peacock",
        "rocket",
        "small airplane",
        "swan",
    )
)
Rng = np.random.Generator
Known = Callable[[str], tuple[str, str]]
"""Name -> (group, subgroup), both "" for what is no emoji."""


def sort_of(placed: Placed, known: Known) -> str:
    """``animal``, ``food``, ``vehicle``, ``shape`` or ``""`` for anything else."""
    if placed.colour:
        return "shape"
    group, subgroup = known(placed.name)
    if group == "animals-nature":
        return "animal" if subgroup.startswith("animal-") else ""
    if group == "travel-places":
        return "vehicle" if subgroup.startswith("transport-") and "sign" not in subgroup else ""
    return "food" if group == "food-drink" and subgroup != "dishware" else ""


def reasoning_turns(scene: Scene, known: Known, rng: Rng) -> list[Turn]:
    """How many of a sort, how many fly, which can be eaten, which is the odd one out."""
    sorts = [sort_of(o, known) for o in scene.objects]
    turns: list[Turn] = []
    asked = ("animal", "food", "vehicle", "shape")[int(rng.integers(4))]
    words = {"animal": "animals", "food": "things to eat", "vehicle": "vehicles", "shape": "shapes"}
    turns.append((f"How many {words[asked]} are there?", str(sorts.count(asked))))
    flying = sum(o.name in FLYERS for o in scene.objects)
    if flying or rng.random() < 0.1:
        turns.append((pick(("How many of them can fly?", "How many can fly?"), rng), str(flying)))
    food = [o.phrase for o, sort in zip(scene.by_x(), _by_x(scene, sorts), strict=True)
            if sort == "food"]  # fmt: skip
    if food and len(food) < len(sorts):
        turns.append(("Which of them can you eat?", f"the {listed(food)}"))
    odd = odd_one_out(scene, sorts)
    if odd is not None:
        why = f"the {odd.phrase}"
        turns.append((pick(("Which is the odd one out?", "Which one does not belong?"), rng), why))
    return turns


def odd_one_out(scene: Scene, sorts: list[str]) -> Placed | None:
    """The one object of another sort than all others, of which there are two or more, alike."""
    for place, one in enumerate(scene.objects):
        rest = sorts[:place] + sorts[place + 1 :]
        alike = len(rest) > 1 and rest[0] and len(set(rest)) == 1
        if alike and sorts[place] and sorts[place] != rest[0]:
            return one
    return None


def _by_x(scene: Scene, sorts: list[str]) -> list[str]:
    order = sorted(range(len(sorts)), key=lambda n: scene.objects[n].centre[0])
    return [sorts[n] for n in order]
