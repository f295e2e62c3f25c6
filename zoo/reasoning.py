"""Simple reasoning about a scene: what can fly, what is food, the odd one out.

A thing's sort is its CLDR group; what flies is listed, since no group says it. Where a sort is
not certain (is a wheel a vehicle, can a kite fly?) nothing is asked that depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zoo.balance import Asked
from zoo.phrasing import article, each, listed, pick
from zoo.scenes import Placed, Scene

if TYPE_CHECKING:
    from zoo.scene_questions import View

FLYERS = each(
    "airplane,bat,bee,beetle,bird,black bird,butterfly,dove,duck,eagle,flamingo,fly,flying saucer,"
    "goose,helicopter,honeybee,lady beetle,mosquito,owl,parrot,peacock,rocket,small airplane,"
    "swan"
)
MAY_FLY = each("balloon,kite,parachute,dragon,dragon face,unicorn,satellite,flying disc,boomerang")
"""What a person may or may not say can fly, beside all birds, insects and aircraft."""
DOUBTFUL = each(
    "feather,wing,paw prints,pig nose,spider web,coral,spiral shell,microbe,anchor,ring buoy,"
    "bus stop,construction,fuel pump,motorway,oil drum,railway track,station,stop sign,wheel,seat,"
    "roller skate,parachute,satellite,carousel horse,teddy bear,mushroom,herb,beans"
)
"""Of no certain sort, whatever their group."""
SORTS = {"animal": "animals", "food": "things to eat", "vehicle": "vehicles", "shape": "shapes"}
"""Sort -> what is asked for."""
IS = {"animal": "an animal", "food": "food", "vehicle": "a vehicle", "shape": "a shape"}
"""Sort -> what each thing is said to be, before any sum is drawn: an LM of this size that names all
things first and sorts them afterwards sorts wrongly what it named rightly."""
FLYING = ("animal-bird", "animal-bug", "transport-air")
COUNTS = tuple(str(n) for n in range(5))
ODD = ("Which is the odd one out?", "Which one does not belong?", "Which object is the odd one?")
ODD_IS = "the odd one out is"
"""Before the name of the odd one out; what is said before it are reasons."""
FLY = ("How many of them can fly?", "How many can fly?")
Known = Callable[[str], tuple[str, str]]
"""Name -> (group, subgroup), both "" for what is no emoji."""


def sort_named(name: str, known: Known) -> str:
    """``animal``, ``food``, ``vehicle`` or ``""`` for anything else."""
    _, subgroup = known(name)
    if name in DOUBTFUL or subgroup == "transport-sign":
        return ""
    for sort, start in (("animal", "animal-"), ("food", "food-"), ("vehicle", "transport-")):
        if subgroup.startswith(start):
            return sort
    return ""


def sort_of(placed: Placed, known: Known) -> str:
    """The sort of what stands in a scene; ``shape`` for a plain shape."""
    return "shape" if placed.colour else sort_named(placed.name, known)


def may_fly(name: str, known: Known) -> bool:
    """Whether a thing flies or a person may say that it does."""
    return name in FLYERS or name in MAY_FLY or known(name)[1] in FLYING


def count_sort(view: View) -> Asked | None:
    """How many there are of a sort."""
    if any(o.name in DOUBTFUL for o in view.scene.objects):
        return None
    sorts = [sort_of(o, view.known) for o in view.scene.objects]
    numbers = {sort: str(sorts.count(sort)) for sort in SORTS if sorts.count(sort) < len(COUNTS)}
    rare = view.balance.rarest("count sort", sorted(set(numbers.values())), view.rng)
    if not view.balance.fair("count sort", rare, COUNTS):
        return None
    asked = pick(tuple(sort for sort, number in numbers.items() if number == rare), view.rng)
    form = pick(("How many {} are there?", "How many {} do you see?"), view.rng)
    reasons = f"{sorted_out(view)}, so {rare}"
    return Asked("count sort", form.format(SORTS[asked]), rare, f"count {asked}", reasons)


def sorted_out(view: View) -> str:
    """``a cat is an animal and a red circle is a shape``, from left to right."""
    across = [(o.phrase, sort_of(o, view.known)) for o in view.scene.by_x()]
    return listed([f"{article(phrase)} is {IS.get(sort, 'a thing')}" for phrase, sort in across])


def count_flying(view: View) -> Asked | None:
    """How many can fly, where that is certain of all."""
    names = [o.name for o in view.scene.objects if not o.colour]
    if not names or any(may_fly(n, view.known) and n not in FLYERS for n in names):
        return None
    across = [(o.phrase, o.name in FLYERS) for o in view.scene.by_x()]
    number = str(sum(flies for _, flies in across))
    if not view.balance.fair("count flying", number, COUNTS[:4]):
        return None
    able = listed([f"{article(who)} {'can' if flies else 'cannot'} fly" for who, flies in across])
    return Asked("count flying", pick(FLY, view.rng), number, "fly", f"{able}, so {number}")


def what_to_eat(view: View) -> Asked | None:
    """What of it is food, where something is and something is not."""
    food = [o.phrase for o in view.scene.by_x() if sort_of(o, view.known) == "food"]
    if not food or len(food) == len(view.scene.objects) or len(set(food)) < len(food):
        return None
    return Asked("eat", "Which of them can you eat?", f"the {listed(food)}", "eat")


def odd_one(view: View) -> Asked | None:
    """Which is of another sort than all others."""
    odd = odd_one_out(view.scene, [sort_of(o, view.known) for o in view.scene.objects])
    if odd is None:
        return None
    reasons = f"{sorted_out(view)}, so {ODD_IS} the {odd.phrase}"
    return Asked("odd", pick(ODD, view.rng), odd.phrase, "odd", reasons)


def odd_one_out(scene: Scene, sorts: list[str]) -> Placed | None:
    """The one object of another sort than all others, of which there are two or more, alike."""
    for place, one in enumerate(scene.objects):
        rest = sorts[:place] + sorts[place + 1 :]
        alike = len(rest) > 1 and rest[0] and len(set(rest)) == 1
        if alike and sorts[place] and sorts[place] != rest[0]:
            return one
    return None
