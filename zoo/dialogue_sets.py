"""Conversations about pictures never trained on; answers follow from how the pictures are made.

Flags: which country, its capital, on which continent (each question leans on the answer before).
Scenes: what LLaVA-Instruct calls reasoning (how many can be eaten or can fly, the odd one out).
Descriptions: of the judge's own composed scenes, by how many of their objects they name, and the
same of what is said when people ask what there is. Drawings
are OpenMoji's report half; the set is a function of SEED and of OpenMoji's table.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.evaluate.openmoji import NATION, SVGS, half, names, read_table
from neva.evaluate.scene_layout import Actor, Layout, lay_out, paint
from neva.evaluate.scenes import compose, draw, words_of
from neva.evaluate.svg import cut_out
from zoo.reasoning import FLYERS

SEED = 21
SCENES = 120
WIDTH = 160
SORTS = {
    "animals": ("animal-",),
    "things to eat": ("food-",),
    "vehicles": ("transport-ground", "transport-air", "transport-water"),
}
"""What is asked -> beginnings of the subgroups that are meant."""
LETTERS = range(0x1F1E6, 0x1F1E6 + 26)  # regional indicators, A to Z


@dataclass(frozen=True)
class Step:
    """One question; `golds` are right if one is in the answer, or all counted for "describe"."""

    kind: str
    question: str
    golds: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Dialogue:
    """A picture and what is asked about it, one question after the other."""

    id: str
    image: Path
    steps: tuple[Step, ...]


def flags(package: Path, countries: Path, drawn: Path) -> Iterator[Dialogue]:
    """A conversation for each national flag of which a country's facts are known."""
    facts = {row["code"]: row for row in json.loads(countries.read_text(encoding="utf-8"))}
    for row in read_table("dialogues", package)[1]:
        code = letters(str(row["hexcode"]))
        fact = facts.get(code)
        if not str(row["annotation"]).startswith(NATION) or not fact or not fact.get("capital"):
            continue
        country = tuple({str(row["annotation"]).removeprefix(NATION), str(fact["name"])})
        steps = [
            Step("country", "Which country's flag is this?", (country,)),
            Step("capital", "What is its capital?", ((str(fact["capital"]),),)),
            Step("continent", "On which continent is it?", ((str(fact["continent"]),),)),
        ]
        if not fact.get("continent"):
            steps.pop()
        yield Dialogue(f"flag-{code}", drawn / f"{row['hexcode']}.png", tuple(steps))


def letters(hexcode: str) -> str:
    """The two letters of a flag's code points; "" for what is no pair of regional indicators."""
    codes = [int(part, 16) for part in hexcode.split("-")]
    if len(codes) != 2 or any(code not in LETTERS for code in codes):
        return ""
    return "".join(chr(code - LETTERS[0] + ord("a")) for code in codes)


def actors(rows: Sequence[dict[str, Any]]) -> dict[str, list[Actor]]:
    """Drawings of the report half with short names, by sort; "flyers" and "mammals" besides."""
    found: dict[str, list[Actor]] = {sort: [] for sort in (*SORTS, "flyers", "mammals")}
    for row in sorted(rows, key=lambda row: str(row["hexcode"])):
        name, group = str(row["annotation"]), str(row["subgroups"])
        if half(str(row["hexcode"])) != "report" or len(name.split()) > 2:
            continue
        called = names(name, str(row["tags"]))
        one = Actor(str(row["hexcode"]), name, "", called, group, words_of((name,)))
        for sort, beginnings in SORTS.items():
            if group.startswith(beginnings):
                found[sort].append(one)
        if name in FLYERS:
            found["flyers"].append(one)
        elif group == "animal-mammal" and not words_of(called) & {"bat", "fly", "flying"}:
            found["mammals"].append(one)
    return found


def reasoned(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Layout, tuple[Step, ...]]]:
    """Scenes to reason about: of three, two ask for the odd one out and one who can fly."""
    cast, rng = actors(rows), random.Random(SEED)
    for number in range(SCENES):
        if number % 3 == 2:
            flying = number // 3 % 4
            chosen = rng.sample(cast["flyers"], flying)
            chosen += rng.sample(cast["mammals"], rng.randint(max(1, 2 - flying), 4 - flying))
            steps = [Step("how many fly", "How many of them can fly?", ((str(flying),),))]
        else:
            many, one = rng.sample(list(SORTS), 2)
            chosen = rng.sample(cast[many], rng.randint(2, 4))
            odd = rng.choice([c for c in cast[one] if all(apart(c, other) for other in chosen)])
            asked, count = rng.choice([(many, len(chosen)), (one, 1)])
            chosen.append(odd)
            steps = [
                Step("how many of a kind", f"How many {asked} are there?", ((str(count),),)),
                Step("odd one out", "Which is the odd one out?", (odd.names,)),
            ]
        rng.shuffle(chosen)
        yield lay_out(chosen, rng), tuple(steps)


def apart(one: Actor, other: Actor) -> bool:
    """Whether no word of their names is common."""
    return one.words.isdisjoint(other.words)


def scenes(package: Path, place: Path) -> Iterator[Dialogue]:
    """The scenes to reason about, drawn into `place` where they are not."""
    place.mkdir(parents=True, exist_ok=True)
    for number, (layout, steps) in enumerate(reasoned(read_table("dialogues", package)[1])):
        target = place / f"{SEED}-{number:03}.png"
        if not target.is_file():
            codes = {one.actor.hexcode for one in layout.placed}
            paint(layout, {c: cut_out(package / SVGS / f"{c}.svg", WIDTH) for c in codes}).save(
                target
            )
        yield Dialogue(f"reason-{number:03}", target, steps)


def described(package: Path) -> Iterator[Dialogue]:
    """The judge's composed scenes, each to be described, and each asked what there is."""
    layouts = [layout for layout, _ in compose(read_table("dialogues", package)[1])]
    place = draw(package, layouts)
    for number, layout in enumerate(layouts):
        things = {one.actor.hexcode: one.actor.names for one in layout.placed}
        picture, golds = place / f"{number:03}.png", tuple(things.values())
        told = Step("describe", "Describe this picture.", golds)
        yield Dialogue(f"describe-{number:03}", picture, (told,))
        seen = Step("what do you see", "What do you see?", golds)
        yield Dialogue(f"seen-{number:03}", picture, (seen,))
