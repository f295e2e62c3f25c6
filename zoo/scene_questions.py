"""Questions about composed scenes; the answers follow from the geometry.

A record asks a few forms of question, each of what the others do not give away (`Asked.about`):
the colour of the circle first, then what is there, since every later question says that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from zoo import reasoning as think
from zoo.balance import Asked, Balance
from zoo.casting import Casting
from zoo.colours import COLOURS, DRAWN
from zoo.phrasing import DESCRIBE, article, listed, pick
from zoo.reasoning import Known
from zoo.records import Turn
from zoo.scenes import Scene, side_of, third_of
from zoo.side_questions import place

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
TOTALS = ("1", "2", "3", "4", "5")
HOW_MANY = (
    "How many objects are there?",
    "How many things are in the picture?",
    "Count the objects.",
)
HOW_MANY_OF = (
    "How many pictures of {} are there?",
    "How many pictures of {} are there?",
    "How often is {} shown?",
    "Count the pictures of {}.",
)
THERE = (
    "Is there {} in the picture?",
    "Is there {} in the picture?",
    "Do you see {}?",
    "Does the picture show {}?",
)
COLOUR_OF = (
    "What color is the {}?",
    "What color is the {}?",
    "What colour is the {}?",
    "Which color does the {} have?",
)
SEE = (
    "What do you see?",
    "What is in this picture?",
    "What is in this image?",
    "What is in the picture?",
    "What's in the image?",
    "What can you see?",
    "What does this picture show?",
    "What does the image show?",
    "What is shown here?",
    "What is depicted in this image?",
    "What am I looking at?",
    "Tell me what is in the picture.",
)
"""What `zoo.phrasing.NAME` asks of one thing as well; of several all are named."""
EARLY = {"seen": 0, "color": 0, "there": 1, "odd": 2, "count": 2, "list": 4}
"""First word of a form -> when it is asked; 3 for all others. Of equals the one that came first."""
Rng = np.random.Generator


@dataclass(frozen=True)
class View:
    """What an asker looks at: a scene, what is not in it, what has been told so far."""

    scene: Scene
    casting: Casting
    balance: Balance
    rng: Rng

    @property
    def known(self) -> Known:
        """Name -> (group, subgroup)."""
        return self.casting.deck.kind_of


Form = Callable[[View], Asked | None]
"""Asks one question of a view, or none that would be true and balanced."""


def count_all(view: View) -> Asked | None:
    """How many objects there are."""
    total = str(len(view.scene.objects))
    if not view.balance.fair("count all", total, TOTALS):
        return None
    return Asked("count all", pick(HOW_MANY, view.rng), total, "total")


def count_same(view: View) -> Asked | None:
    """How many of one drawing there are, of the number that was told least."""
    phrases = [o.phrase for o in view.scene.objects]
    numbers = {phrase: str(phrases.count(phrase)) for phrase in phrases}
    rare = view.balance.rarest("count same", sorted(set(numbers.values())), view.rng)
    if not view.balance.fair("count same", rare, TOTALS):
        return None
    asked = pick(tuple(p for p, number in numbers.items() if number == rare), view.rng)
    question = pick(HOW_MANY_OF, view.rng).format(asked)
    return Asked("count same", question, rare, f"count {asked}")


def there_is(kind: str) -> Form:
    """Asks whether something is there: a ``shape`` or a ``thing``; as often no as yes."""

    def ask(view: View) -> Asked | None:
        answer = view.balance.rarest(f"there {kind}", ("yes", "no"), view.rng)
        there = [o for o in view.scene.objects if bool(o.colour) == (kind == "shape")]
        if answer == "yes" and not there:
            return None
        if answer == "yes":
            name, colour = there[int(view.rng.integers(len(there)))].who
        elif kind == "shape":
            shape = view.casting.absent_shape(view.scene, view.rng)
            name, colour = shape.kind, shape.colour
        else:
            name, colour = view.casting.absent_thing(view.scene, view.rng), ""
        question = pick(THERE, view.rng).format(article(f"{colour} {name}".strip()))
        return Asked(f"there {kind}", question, answer, f"kind {name}")

    return ask


def there_is_part(view: View) -> Asked | None:
    """Whether a kind or a colour of shape is there; colours only where all are shapes."""
    shapes = [o for o in view.scene.objects if o.colour]
    by_colour = len(shapes) == len(view.scene.objects) and view.rng.random() < 0.5
    form = "there colour" if by_colour else "there kind"
    present = {o.colour if by_colour else o.name for o in shapes}
    answer = view.balance.rarest(form, ("yes", "no"), view.rng)
    free = [c for c in COLOURS if c != "white"] if by_colour else DRAWN
    pool = [one for one in free if (one in present) == (answer == "yes")]
    if answer == "no" and not by_colour:
        pool = [kind for kind in pool if not view.casting.confused(kind, view.scene)]
    if not pool:
        return None
    asked = pool[int(view.rng.integers(len(pool)))]
    noun = f"{asked} shape" if by_colour else asked
    question = pick(THERE, view.rng).format(article(noun))
    return Asked(form, question, answer, f"kind {noun}")


def colour_of(view: View) -> Asked | None:
    """Which colour the only shape of its kind has."""
    kinds = [o.name for o in view.scene.objects if o.colour]
    only = [o for o in view.scene.objects if o.colour and kinds.count(o.name) == 1]
    if not only:
        return None
    colour = view.balance.rarest("color", sorted({o.colour for o in only}), view.rng)
    one = next(o for o in only if o.colour == colour)
    question = pick(COLOUR_OF, view.rng).format(one.name)
    return Asked("color", question, colour, f"kind {one.name}")


def in_order(view: View) -> Asked | None:
    """What there is, from left to right, where no two stand above each other."""
    across = view.scene.by_x()
    if not all(side_of(a, b)[0] for a, b in pairwise(across)):
        return None
    names = ", ".join(o.phrase for o in across)
    return Asked("list", "What objects are in the picture, from left to right?", names, "list")


def all_seen(view: View) -> Asked | None:
    """What there is: all of it, by the questions that name one thing alone."""
    names = listed([article(o.phrase) for o in view.scene.by_x()])
    return Asked("seen", pick(SEE, view.rng), names, "list")


def describe_turn(scene: Scene, rng: Rng) -> Turn:
    """A description: how many, what, and where each is."""
    total = len(scene.objects)
    what = listed([article(o.phrase) for o in scene.by_x()])
    places = listed([f"the {o.phrase} is at the {third_of(scene, o)}" for o in scene.by_x()])
    number = NUMBERS[total].capitalize()
    thing = "object" if total == 1 else "objects"
    text = f"{number} {thing}: {what}. {places[0].upper()}{places[1:]}."
    return pick(DESCRIBE, rng), text


def ask_some(view: View, forms: Sequence[Form], most: int) -> list[Turn]:
    """Questions of these forms in turn until there are enough; none gives another away."""
    taken: dict[str, Asked] = {}
    for form in forms:
        asked = form(view) if len(taken) < most else None
        if asked is not None and asked.about not in taken:
            view.balance.tell(asked)
            taken[asked.about] = asked
    ordered = sorted(taken.values(), key=lambda one: EARLY.get(one.form.split()[0], 3))
    return [(one.question, one.reasons or one.answer) for one in ordered]


def shuffled(forms: Sequence[Form], rng: Rng) -> list[Form]:
    """The forms in any order."""
    return [forms[int(n)] for n in rng.permutation(len(forms))]


THERE_FORMS: tuple[Form, ...] = (there_is("shape"), there_is("thing"))
MIXED_FORMS: tuple[Form, ...] = (
    count_all,
    count_all,
    colour_of,
    colour_of,
    *THERE_FORMS,
    *THERE_FORMS,
    there_is_part,
    place,
    in_order,
)
THINK_FORMS: tuple[Form, ...] = (think.count_sort, think.count_sort, think.what_to_eat)
