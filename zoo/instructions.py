"""Stage 2: conversations in the form of LLaVA-Instruct, one turn or several per picture.

Some 20k records by default, a third of them names alone (`zoo.naming`) and two fifths scenes of one
to five objects (`zoo.scene_records`): besides these easy-VQA's train images with their questions
(at most five turns a record, so that early answers give away little), yes/no and category
questions about emoji and icons, letters and digits (`zoo.glyph_records`), flags with country,
capital and continent, text-only chat, and pictures of nothing whose answer is that the model is
not sure (`zoo.unsure`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from PIL import Image

from zoo import phrasing as say
from zoo import vqa
from zoo.casting import Casting
from zoo.coins import COINS
from zoo.colours import COLOURS, draw_shape
from zoo.deck import KINDS, Deck
from zoo.drawings import Drawing
from zoo.everyday import EVERYDAY, said
from zoo.glyph_records import glyph_examples
from zoo.glyphs import Typefaces
from zoo.names import says_colour
from zoo.naming import drawn, name_example
from zoo.records import Example, Turn, write
from zoo.scene_records import ScenePlan, scene_examples
from zoo.scenes import single, third_of
from zoo.snapshots import Snapshots
from zoo.unsure import unsure_example

Rng = np.random.Generator


@dataclass(frozen=True)
class InstructionPlan:
    """How many records of each kind, and how many turns a record may have."""

    vqa_images: int = 4000
    vqa: int = 250
    turns: int = 5
    names: int = 5500
    strange: int = 2600
    """Names of drawings that CLIP never saw, or general words for them (`zoo.general`)."""
    everyday: int = 0
    """Names of what people call otherwise than CLDR (`zoo.everyday`), beside all names'."""
    families: int = 130
    icon_names: int = 200
    emoji: int = 400
    icons: int = 60
    monos: int = 120
    flags: int = 900
    shapes: int = 300
    glyphs: int = 1500
    coins: int = 60
    """Struck ones (`zoo.coins`); among all names there is one coin in two thousand."""
    scenes: ScenePlan = field(default_factory=ScenePlan)
    unsure: int = 800
    capitals: int = 120
    sums: int = 60
    chatter: int = 1
    """How often each answer of the base LM is told (`zoo.chatter`)."""
    seed: int = 13


def vqa_examples(image: vqa.VqaImage, most: int, rng: Rng) -> list[Example]:
    """All of an image's own questions, shuffled, in records of at most ``most`` turns."""
    order = [image.questions[int(i)] for i in rng.permutation(len(image.questions))]
    picture = Image.open(image.path).convert("RGB")
    manner = rng.choice(3, p=[0.4, 0.2, 0.4])
    out = []
    for start in range(0, len(order), most):
        turns = []
        for place, (question, answer) in enumerate(order[start : start + most]):
            short = manner == 2 or (manner == 1 and place == 0)
            turns.append((f"{question}\n{say.SHORT}" if short else question, answer))
        out.append(Example("vqa", tuple(turns), picture))
    return out


def _ask_is(name: str, drawing: Drawing, rng: Rng) -> str:
    plain = drawing.group in ("animals-nature", "food-drink", "objects", "travel-places")
    noun = say.article(name) if plain and ":" not in name else f'"{name}"'
    return say.pick(say.YES_NO, rng).format(noun)


def name_turns(deck: Deck, drawing: Drawing, rng: Rng) -> list[Turn]:
    """Name, is it X (true and false), kind, keywords."""
    name = said(drawing.concept)
    turns: list[Turn] = [(say.name_question(rng), name)]
    if rng.random() < 0.6:
        turns.append((_ask_is(name, drawing, rng), "yes"))
    if rng.random() < 0.75:
        turns.append((_ask_is(deck.other_than(drawing, rng), drawing, rng), "no"))
    if drawing.subgroup in KINDS and rng.random() < 0.6:
        turns.append((say.pick(say.KIND, rng), KINDS[drawing.subgroup]))
    words = [w for w in drawing.keywords if len(w) > 1]
    if words and rng.random() < 0.4:
        some = sorted(int(i) for i in rng.permutation(len(words))[:3])
        turns.append((say.pick(say.KEYWORDS, rng), ", ".join(words[i] for i in some)))
    return turns


def _shuffled(turns: list[Turn], rng: Rng, name_first: float = 0.4) -> tuple[Turn, ...]:
    order = [turns[int(i)] for i in rng.permutation(len(turns))]
    if rng.random() < name_first:
        order.sort(key=lambda t: t is not turns[0])
    return tuple(order)


def art_example(deck: Deck, row: int, rng: Rng) -> Example:
    """One emoji or colour icon with its questions; sometimes where it is, or a description."""
    drawing = deck.drawing(row)
    picture, scene = single(drawn(deck, row, rng), drawing.concept, rng)
    turns = name_turns(deck, drawing, rng)
    if rng.random() < 0.15:
        turns.append(("Where in the picture is it?", third_of(scene, scene.objects[0])))
    if rng.random() < 0.15:
        kind = KINDS.get(drawing.subgroup, "")
        text = f"The image shows {said(drawing.concept)}" + (f" ({kind})." if kind else ".")
        turns.append((say.pick(say.DESCRIBE, rng), text))
    return Example(drawing.kind, _shuffled(turns, rng), picture)


def mono_example(deck: Deck, row: int, rng: Rng) -> Example:
    """A recoloured mono icon: name and colour."""
    drawing, ink = deck.drawing(row), deck.ink(rng)
    picture, _ = single(deck.image(row, ink, rng), drawing.concept, rng)
    wrong = [c for c in COLOURS if c not in (ink, "white")][int(rng.integers(10))]
    turns: list[Turn] = [(say.name_question(rng), drawing.concept)]
    turns.append((say.pick(say.COLOUR_ART, rng), ink))
    asked = ink if rng.random() < 0.5 else wrong
    turns.append((f"Is it {asked}?", "yes" if asked == ink else "no"))
    return Example("mono", _shuffled(turns, rng), picture)


def flag_example(deck: Deck, row: int, rng: Rng) -> Example:
    """A national flag: what, whose, capital, continent."""
    drawing = deck.drawing(row)
    country, capital, continent = drawing.details
    picture, _ = single(drawn(deck, row, rng), drawing.concept, rng)
    turns: list[Turn] = [(say.pick(say.COUNTRY, rng), country)]
    turns.append((say.name_question(rng), drawing.concept))
    if capital:
        turns.append((say.pick(say.CAPITAL, rng), capital))
    if continent:
        turns.append((say.pick(say.CONTINENT, rng), continent))
    return Example("flag", _shuffled(turns, rng, 0.6), picture)


def shape_example(deck: Deck, rng: Rng) -> Example:
    """One plain shape, asked in words of our own."""
    shape = deck.plain_shape(rng)
    picture, scene = single(draw_shape(shape, 120, rng), shape.kind, rng)
    other = deck.plain_shape(rng)
    turns: list[Turn] = [
        (say.name_question(rng), shape.phrase),
        (
            say.pick(("What shape is it?", "Which shape is this?", "What is the shape?"), rng),
            shape.kind,
        ),
        (
            say.pick(
                ("What color is it?", "What is its color?", "Which colour is the shape?"), rng
            ),
            shape.colour,
        ),
        (f"Is it {say.article(other.phrase)}?", "yes" if other == shape else "no"),
        ("Where in the picture is it?", third_of(scene, scene.objects[0])),
    ]
    return Example("shape", _shuffled(turns, rng), picture)


def chat_examples(deck: Deck, plan: InstructionPlan, rng: Rng) -> list[Example]:
    """Text without pictures: small talk, plain facts, capitals, sums."""
    out = [Example("chat", (turn,)) for turn in say.CHAT]
    for place in rng.permutation(len(say.CHAT) - 1)[:40]:
        out.append(Example("chat", (say.CHAT[int(place)], say.CHAT[int(place) + 1])))
    flags = [deck.drawing(r).details for r in deck.kinds["flag"]]
    known = [d for d in flags if d[1]]
    for index in rng.permutation(len(known))[: plan.capitals]:
        country, capital, _ = known[int(index)]
        question = f"What is the capital of {country}?"
        out.append(Example("chat", ((question, f"The capital of {country} is {capital}."),)))
    for _ in range(plan.sums):
        a, b = (int(n) for n in rng.integers(1, 10, 2))
        out.append(Example("chat", ((f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),)))
    return out


def coin_examples(deck: Deck, count: int, rng: Rng) -> list[Example]:
    """Struck coins, as they lie in a purse; none if the deck has none."""
    rows = [r for r in deck.by_concept.get("coin", ()) if deck.drawing(r).set_name == COINS]
    return [name_example(deck, int(r), rng) for r in rng.choice(rows, count)] if rows else []


def everyday_rows(deck: Deck, count: int, rng: Rng) -> list[int]:
    """Rows of what people call otherwise than CLDR: every concept in turn, by any artist."""
    known = [concept for concept in EVERYDAY if concept in deck.by_concept]
    return [deck.one_of(known[n % len(known)], rng) for n in range(count)] if known else []


def _emoji_rows(deck: Deck, count: int, rng: Rng) -> list[int]:
    """Rows balanced by concept: every concept in turn, by any artist."""
    rows: list[int] = []
    while len(rows) < count:
        for index in rng.permutation(len(deck.concepts)):
            rows.append(deck.one_of(deck.concepts[int(index)], rng))
    return rows[:count]


def examples(
    deck: Deck,
    plan: InstructionPlan,
    chatter: Sequence[Turn] = (),
    typefaces: Typefaces | None = None,
    snapshots: Snapshots | None = None,
) -> list[Example]:
    """All records of stage 2 in shuffled order; a function of the plan and the chatter."""
    rng = np.random.default_rng(plan.seed)
    asked: list[Example] = []
    for image in vqa.train_images()[: plan.vqa_images]:
        asked += vqa_examples(image, plan.turns, rng)
    out = [asked[int(i)] for i in rng.permutation(len(asked))[: plan.vqa]]
    out += [name_example(deck, r, rng) for r in _emoji_rows(deck, plan.names, rng)]
    strange = rng.choice(deck.strange, plan.strange, replace=plan.strange > len(deck.strange))
    out += [name_example(deck, int(r), rng) for r in strange]
    out += [name_example(deck, r, rng) for r in everyday_rows(deck, plan.everyday, rng)]
    families = [r for c in deck.concepts if c.startswith("family:") for r in deck.by_concept[c]]
    if families:
        out += [name_example(deck, int(r), rng) for r in rng.choice(families, plan.families)]
    out += [art_example(deck, r, rng) for r in _emoji_rows(deck, plan.emoji, rng)]
    plain = [r for r in deck.kinds["icon"] if not says_colour(deck.drawing(r).concept)]
    for row in rng.choice(plain, plan.icons, replace=False):
        out.append(art_example(deck, int(row), rng))
    for row in rng.choice(plain, plan.icon_names, replace=False):
        out.append(name_example(deck, int(row), rng))
    for row in rng.choice(deck.kinds["mono"], plan.monos, replace=False):
        out.append(mono_example(deck, int(row), rng))
    for row in rng.choice(deck.kinds["flag"], plan.flags, replace=True):
        out.append(flag_example(deck, int(row), rng))
    out += [shape_example(deck, rng) for _ in range(plan.shapes)]
    out += glyph_examples(typefaces, plan.glyphs, rng) if typefaces else []
    out += coin_examples(deck, plan.coins, rng)
    out += scene_examples(Casting(deck), plan.scenes, rng)
    out += [unsure_example(rng, snapshots) for _ in range(plan.unsure)]
    out += chat_examples(deck, plan, rng)
    out += [Example("chat", (turn,)) for turn in chatter] * plan.chatter
    return [out[int(i)] for i in rng.permutation(len(out))]


def build(work: Path, plan: InstructionPlan | None = None, out: Path | None = None) -> None:
    """Write ``chat.json`` and ``images`` to ``out`` (``WORK/stage2``) unless they exist.

    The base LM's talk, if the plan has any, is that of ``chatter.json`` beside ``out``.
    """
    out = out or work / "stage2"
    if (out / "chat.json").is_file():
        return
    plan = plan or InstructionPlan()
    told = json.loads((out.parent / "chatter.json").read_text()) if plan.chatter else []
    chatter = [(ask, answer) for ask, answer in told]
    packages = work / "packages"
    typefaces, snapshots = Typefaces.fetched(packages), Snapshots.fetched(packages)
    made = examples(Deck.open(work), plan, chatter, typefaces, snapshots)
    print(write(made, out), dict(Counter(e.kind for e in made)))


def changed(plan: InstructionPlan, numbers: Mapping[str, str]) -> InstructionPlan:
    """The plan with other numbers, by the names of its fields or of its scenes' fields."""
    own = {f.name for f in fields(InstructionPlan)} - {"scenes"}
    scenes = {f.name for f in fields(ScenePlan)}
    unknown = sorted(set(numbers) - own - scenes)
    if unknown:
        raise ValueError(f"the plan has no number {', '.join(unknown)}")
    told = {name: int(number) for name, number in numbers.items()}
    both = {n: v for n, v in told.items() if n in scenes - own}
    turns = {"turns": told["turns"]} if "turns" in told else {}
    mine = {n: v for n, v in told.items() if n in own}
    return replace(plan, **mine, scenes=replace(plan.scenes, **both, **turns))  # type: ignore[arg-type]


def main(argv: list[str] | None = None) -> int:
    """Write stage 2's records and pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    both = [f.name for kind in (InstructionPlan, ScenePlan) for f in fields(kind)]
    names = ", ".join(name for name in both if name != "scenes")
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=N",
        help=f"other numbers than the plan's, of: {names}",
    )
    o = parser.parse_args(argv)
    try:
        plan = changed(InstructionPlan(), dict(word.split("=") for word in o.set))
    except ValueError as error:
        parser.error(str(error))
    build(o.work, plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
