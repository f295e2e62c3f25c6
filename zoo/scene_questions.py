"""Questions about composed scenes; the answers follow from the geometry."""

from __future__ import annotations

import numpy as np

from zoo.colours import COLOURS
from zoo.phrasing import DESCRIBE, article, listed, pick
from zoo.reasoning import Known, reasoning_turns
from zoo.records import Turn
from zoo.scenes import Placed, Scene, side_of, third_of

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
Rng = np.random.Generator


def count_turns(scene: Scene, rng: Rng) -> list[Turn]:
    """How many objects there are, and how many of one name."""
    total = len(scene.objects)
    ask = pick(
        (
            "How many objects are there?",
            "How many things are in the picture?",
            "Count the objects.",
        ),
        rng,
    )
    one = scene.objects[int(rng.integers(total))]
    same = sum(o.name == one.name for o in scene.objects)
    many = f"How many pictures of {one.name} are there?"
    return [(ask, str(total)), (many, str(same))]


def side_turns(scene: Scene, rng: Rng) -> list[Turn]:
    """Yes/no and open questions about two objects' places."""
    turns: list[Turn] = []
    names = [o.name for o in scene.objects]
    unique = [o for o in scene.objects if names.count(o.name) == 1]
    for _ in range(3):
        if len(unique) < 2:
            return turns
        a, b = (unique[int(i)] for i in rng.choice(len(unique), 2, replace=False))
        turns += _pair_turns(a, b, rng)
    return turns


def _pair_turns(a: Placed, b: Placed, rng: Rng) -> list[Turn]:
    across, along = side_of(a, b)
    words = [w for w in (across, along) if w]
    if not words:
        return []
    true = words[int(rng.integers(len(words)))]
    other = {"left": "right", "right": "left", "above": "below", "below": "above"}
    asked = true if rng.random() < 0.5 else other[true]
    link = {"left": "to the left of", "right": "to the right of"}
    yes_no = f"Is the {a.phrase} {link.get(asked, asked)} the {b.phrase}?"
    turns = [(yes_no, "yes" if asked == true else "no")]
    if across and rng.random() < 0.5:
        turns.append((f"Is the {a.phrase} left or right of the {b.phrase}?", across))
    elif along:
        turns.append((f"Is the {a.phrase} above or below the {b.phrase}?", along))
    return turns


def what_turns(scene: Scene, rng: Rng) -> list[Turn]:
    """What is there, what is at an end, where something is, what colour a shape has."""
    across, along = scene.by_x(), scene.by_y()
    turns = [
        (
            "What objects are in the picture, from left to right?",
            ", ".join(o.phrase for o in across),
        ),
    ]
    if len(across) > 1 and side_of(across[0], across[1])[0]:
        turns.append(
            (pick(("What is on the left?", "What is the leftmost object?"), rng), across[0].phrase)
        )
    if len(across) > 1 and side_of(across[-1], across[-2])[0]:
        turns.append(
            (
                pick(("What is on the right?", "What is the rightmost object?"), rng),
                across[-1].phrase,
            )
        )
    if len(along) > 1 and side_of(along[0], along[1])[1]:
        turns.append(
            (pick(("What is at the top?", "What is the topmost object?"), rng), along[0].phrase)
        )
    if len(along) > 1 and side_of(along[-1], along[-2])[1]:
        turns.append(
            (pick(("What is at the bottom?", "What is the lowest object?"), rng), along[-1].phrase)
        )
    names = [o.name for o in scene.objects]
    for o in scene.objects:
        if names.count(o.name) == 1:
            turns.append((f"Where is the {o.name}?", third_of(scene, o)))
            if o.colour:
                turns.append((f"What color is the {o.name}?", o.colour))
    return turns


def presence_turns(scene: Scene, absent: str, rng: Rng) -> list[Turn]:
    """Whether something is in the scene: one that is, one that is not, and a colour."""
    present = scene.objects[int(rng.integers(len(scene.objects)))]
    turns = [
        (f"Is there {article(present.name)} in the picture?", "yes"),
        (f"Is there {article(absent)} in the picture?", "no"),
    ]
    colours = {o.colour for o in scene.objects if o.colour}
    if colours and all(o.colour for o in scene.objects):
        asked = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        answer = "yes" if asked in colours else "no"
        turns.append((f"Is there {article(asked + ' shape')} in the picture?", answer))
    return turns


def describe_turn(scene: Scene, rng: Rng) -> Turn:
    """A description: how many, what, and where each is."""
    total = len(scene.objects)
    what = listed([article(o.phrase) for o in scene.by_x()])
    places = listed([f"the {o.phrase} is at the {third_of(scene, o)}" for o in scene.by_x()])
    number = NUMBERS[total].capitalize()
    thing = "object" if total == 1 else "objects"
    text = f"{number} {thing}: {what}. {places[0].upper()}{places[1:]}."
    return pick(DESCRIBE, rng), text


def scene_turns(scene: Scene, absent: str, most: int, known: Known, rng: Rng) -> tuple[Turn, ...]:
    """Up to ``most`` turns in shuffled order; a description one time of three."""
    turns = (
        count_turns(scene, rng)
        + side_turns(scene, rng)
        + what_turns(scene, rng)
        + presence_turns(scene, absent, rng)
        + reasoning_turns(scene, known, rng)
    )
    turns = list(dict(turns).items())
    chosen = [turns[int(i)] for i in rng.permutation(len(turns))[:most]]
    if rng.random() < 0.33:
        chosen.insert(int(rng.integers(len(chosen) + 1)), describe_turn(scene, rng))
    return tuple(chosen)
