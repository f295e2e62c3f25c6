"""Composed scenes of OpenMoji drawings: counting, places, presence, colours, what is where.

`data` is the npm package openmoji, as for the task `openmoji`; drawings of its "report" half only.
Scenes and questions are a function of SEED and of the package's table; pictures are drawn into the
user's cache once. 100 scenes show copies of one drawing and others, 150 show different ones; each
has one to five objects, equally often. Layouts: see `scene_layout`.

An answer counts when the whole of it equals an accepted one after normalisation (articles off,
number words to digits). "What is on the left?" accepts the drawing's CLDR names and keywords.
The floor answers every form of question with its commonest answer, without looking.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from neva.cachedir import cache_dir
from neva.errors import DataError
from neva.evaluate.normalise import bare
from neva.evaluate.openmoji import PNGS, SVGS, half, names, read_table
from neva.evaluate.scene_layout import Actor, Layout, lay_out, paint
from neva.evaluate.scene_questions import Asked, Balance, crowd_questions, mixed_questions
from neva.evaluate.svg import cut_out, write_once
from neva.evaluate.task import Item, Judged, accuracy

SEED = 20
CROWDS = 100
MIXED = 150
MOST = 5
WIDTH = 160  # an SVG's width in pixels before it is cropped
GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
UNFIT = ("time", "sky-weather", "place-map", "game")  # clock faces, moons, suits: too much alike
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black")
COLOUR_WORDS = frozenset(COLOURS) | {"white", "pink", "grey", "gray", "gold", "silver"}
PLAIN = {
    "circle": "1F534 1F7E0 1F7E1 1F7E2 1F535 1F7E3 1F7E4 26AB",
    "square": "1F7E5 1F7E7 1F7E8 1F7E9 1F7E6 1F7EA 1F7EB 2B1B",
    "heart": "2764 1F9E1 1F49B 1F49A 1F499 1F49C 1F90E 1F5A4",
}
SHAPES: dict[str, tuple[str, str]] = {
    code: (shape, colour)
    for shape, codes in PLAIN.items()
    for code, colour in zip(codes.split(), COLOURS, strict=True)
} | {"1F536": ("diamond", "orange"), "1F537": ("diamond", "blue"), "1F53A": ("triangle", "red")}
"""Hexcode -> (shape, colour) of OpenMoji's plain shapes; white ones look like the page."""


@dataclass(frozen=True)
class Scenes:
    """Kinds are count, side, presence, color and what."""

    name: str = "scenes"
    summary: str = "Scenes composed of OpenMoji drawings; exact match after normalisation."
    headline: str = "accuracy"
    suffix: str = ""
    max_tokens: int = 24

    def load(self, data: Path | None) -> list[Item]:
        """About a thousand questions on 250 scenes, drawn if need be."""
        root, rows = read_table(self.name, data)
        scenes = list(self.compose(rows))
        place = draw(root, [layout for layout, _ in scenes])
        return [
            item(number, index, asked, layout, place)
            for number, (layout, questions) in enumerate(scenes)
            for index, asked in enumerate(questions)
        ]

    def compose(self, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Layout, list[Asked]]]:
        """All scenes with their questions."""
        return compose(rows)

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Right when the answer, without "it is", is one of the accepted ones."""
        read = bare(answer)
        return read, float(read in {bare(gold) for gold in item.golds})

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall and by kind."""
        return accuracy(judged)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """Every form of question answered with its commonest answer."""
        forms: dict[str, Counter[str]] = defaultdict(Counter)
        for one in items:
            forms[one.facts["form"]].update({bare(gold) for gold in one.golds})
        best = {
            form: min(count, key=lambda name: (-count[name], name)) for form, count in forms.items()
        }
        guesses = [(one, best[one.facts["form"]]) for one in items]
        return accuracy([Judged(one, guess, *self.judge(one, guess)) for one, guess in guesses])


def item(number: int, index: int, asked: Asked, layout: Layout, place: Path) -> Item:
    """One question; its facts hold what stands where, to check it by."""
    standing = [(one.actor.phrase, one.column, one.row) for one in layout.placed]
    return Item(
        id=f"{number:03}-{index}",
        question=asked.question,
        image=place / f"{number:03}.png",
        golds=asked.golds,
        kind=asked.kind,
        facts={"form": asked.form, "standing": standing,
               "hexcodes": [one.actor.hexcode for one in layout.placed]},
    )  # fmt: skip


def compose(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Layout, list[Asked]]]:
    """All scenes with their questions; a function of the table and SEED."""
    shapes, things = cast(rows)
    rng, balance = random.Random(SEED), Balance()
    for number in range(CROWDS):
        count = number % MOST + 1
        others = rng.randint(0, min(2, MOST - count))
        actors = mixture(1 + others, rng.randint(0, 1) if others else 0, shapes, things, rng)
        layout = lay_out([actors[0]] * count + actors[1:], rng)
        yield layout, crowd_questions(layout, actors[0], absent(actors, shapes, things, rng),
                                      balance, rng)  # fmt: skip
    for number in range(MIXED):
        count = number % MOST + 1
        plain = number // MOST % 2 if count == 1 else 1 if count < 4 else 2
        actors = mixture(count, plain, shapes, things, rng)
        layout = lay_out(actors, rng)
        yield layout, mixed_questions(layout, absent(actors, shapes, things, rng), balance, rng)


def cast(rows: Sequence[dict[str, Any]]) -> tuple[list[Actor], list[Actor]]:
    """(plain shapes, things); DataError where the table holds too few of them."""
    shapes, things = [], []
    for row in sorted(rows, key=lambda row: str(row["hexcode"])):
        code, name = str(row["hexcode"]), str(row["annotation"])
        if code in SHAPES:
            shape, colour = SHAPES[code]
            counted: tuple[str, ...] = (f"{colour} {shape}", shape, name)
            shapes.append(Actor(code, shape, colour, counted, shape, words_of(counted)))
        elif is_thing(row) and half(code) == "report":
            counted = names(name, str(row["tags"]))
            group = str(row["subgroups"])
            things.append(Actor(code, name, "", counted, group, words_of(counted)))
    if len({one.group for one in shapes}) < 3 or len({one.group for one in things}) < 2 * MOST:
        raise DataError("scenes: the OpenMoji table lacks shapes or objects; use openmoji 17.")
    return shapes, things


def is_thing(row: dict[str, Any]) -> bool:
    """A thing whose name is one or two words and says no colour."""
    words = str(row["annotation"]).lower().split()
    return (
        row["group"] in GROUPS
        and row["subgroups"] not in UNFIT
        and len(words) <= 2
        and ":" not in str(row["annotation"])
        and not COLOUR_WORDS & set(words)
    )


def mixture(
    count: int, plain: int, shapes: list[Actor], things: list[Actor], rng: random.Random
) -> list[Actor]:
    """`count` actors, `plain` of them shapes; no two of one group or with a name in common."""
    chosen: list[Actor] = []
    for place in range(count):
        pool = shapes if place < plain else things
        chosen.append(rng.choice([one for one in pool if all(apart(one, c) for c in chosen)]))
    rng.shuffle(chosen)
    return chosen


def absent(
    actors: Sequence[Actor], shapes: list[Actor], things: list[Actor], rng: random.Random
) -> dict[bool, Actor]:
    """A shape (True) and a thing (False) that are not in the scene and could not be taken for it.

    The shape may share its form or its colour with one that is there.
    """
    codes = {actor.hexcode for actor in actors}
    shape = rng.choice([one for one in shapes if one.hexcode not in codes])
    thing = rng.choice([one for one in things if all(apart(one, other) for other in actors)])
    return {True: shape, False: thing}


def apart(one: Actor, other: Actor) -> bool:
    """Whether two actors cannot be confused: another group, no word of their names in common."""
    return one.group != other.group and one.words.isdisjoint(other.words)


def words_of(names: Sequence[str]) -> frozenset[str]:
    """The words of all names, normalised."""
    return frozenset(word for name in names for word in bare(name).split())


def draw(root: Path, layouts: Sequence[Layout]) -> Path:
    """Draw what the cache lacks; the folder of the PNG files, named by what it holds."""
    identity = hashlib.sha256("\n".join(map(plan, layouts)).encode()).hexdigest()[:12]
    place = cache_dir() / f"scenes-{identity}-{WIDTH}"
    place.mkdir(parents=True, exist_ok=True)
    as_png = (root / PNGS).is_dir()
    for number, layout in enumerate(layouts):
        target = place / f"{number:03}.png"
        if target.is_file():
            continue
        codes = {one.actor.hexcode for one in layout.placed}
        files = {c: root / (PNGS / f"{c}.png" if as_png else SVGS / f"{c}.svg") for c in codes}
        pictures = {code: cut_out(path, WIDTH) for code, path in files.items()}
        buffer = BytesIO()
        paint(layout, pictures).save(buffer, "PNG")
        write_once(target, buffer.getvalue())
    return place


def plan(layout: Layout) -> str:
    """Everything that a picture depends on but the drawings themselves."""
    spots = [(one.actor.hexcode, one.column, one.row, one.scale) for one in layout.placed]
    return repr((layout.columns, layout.rows, layout.cell, layout.page, spots))
