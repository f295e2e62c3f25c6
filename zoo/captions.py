"""Stage 1: pictures with one caption each, in the form of LLaVA-CC3M-Pretrain's chat.json.

About 20k records: every emoji and flag once or more, icons, recoloured mono icons, easy-VQA's
train images, plain shapes, and scenes of two to four objects with their positions.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo import vqa
from zoo.casting import Casting
from zoo.colours import draw_shape
from zoo.deck import Deck
from zoo.drawings import Drawing
from zoo.records import Example, write
from zoo.scenes import Scene, compose_scene, side_of, single, third_of

PROMPTS = (
    "Describe the image concisely.",
    "What is this?",
    "Give a short caption of the image.",
    "What does the image show?",
    "Write a brief description of this picture.",
    "Summarize the visual content of the image.",
)
"""LLaVA's plain template drops the prompt in stage 1; it is here because the format has one."""


@dataclass(frozen=True)
class CaptionPlan:
    """How many records of each kind."""

    icons: int = 3000
    monos: int = 1800
    vqa: int = 1500
    shapes: int = 900
    scenes: int = 1800
    seed: int = 11


def emoji_caption(drawing: Drawing, rng: np.random.Generator) -> str:
    """The name, alone for two of three, else with two or three keywords."""
    name, words = drawing.concept, [w for w in drawing.keywords if len(w) > 1]
    if drawing.details and rng.random() < 0.4:
        country, _, continent = drawing.details
        return f"the flag of {country}" + (f", in {continent}" if continent else "")
    if words and rng.random() < 0.34:
        some = [words[int(i)] for i in rng.permutation(len(words))[: int(rng.integers(2, 4))]]
        return f"{name}: {', '.join(some)}"
    return name


def scene_caption(scene: Scene, rng: np.random.Generator) -> str:
    """What is in a scene and where, true to its geometry."""
    objects = scene.by_x()
    if len(objects) == 2:
        one, other = objects if rng.random() < 0.5 else objects[::-1]
        across, along = side_of(one, other)
        where = {"left": "to the left of", "right": "to the right of"}.get(across, along)
        if where:
            return f"{one.phrase} {where} {other.phrase}"
    if rng.random() < 0.5:
        return f"from left to right: {', '.join(o.phrase for o in objects)}"
    return ", ".join(f"{o.phrase} at the {third_of(scene, o)}" for o in objects)


def _captioned(kind: str, picture: Image.Image, text: str, rng: np.random.Generator) -> Example:
    prompt = PROMPTS[int(rng.integers(len(PROMPTS)))]
    return Example(kind, ((prompt, text),), picture)


def _art(deck: Deck, plan: CaptionPlan, rng: np.random.Generator) -> list[Example]:
    out = []
    for kind in ("emoji", "flag"):
        for row in deck.kinds[kind]:
            drawing = deck.drawing(row)
            picture, _ = single(deck.image(row), drawing.concept, rng)
            out.append(_captioned(kind, picture, emoji_caption(drawing, rng), rng))
    for row in rng.choice(deck.kinds["icon"], plan.icons, replace=False):
        name = deck.drawing(int(row)).concept
        out.append(_captioned("icon", single(deck.image(int(row)), name, rng)[0], name, rng))
    for row in rng.choice(deck.kinds["mono"], plan.monos, replace=False):
        name, ink = deck.drawing(int(row)).concept, deck.ink(rng)
        picture, _ = single(deck.image(int(row), ink, rng), name, rng)
        text = f"{ink} icon of {name}" if rng.random() < 0.7 else name
        out.append(_captioned("mono", picture, text, rng))
    return out


def _shapes(deck: Deck, plan: CaptionPlan, rng: np.random.Generator) -> list[Example]:
    out = []
    images = [i for i in vqa.train_images() if i.shape and i.colour]
    for index in rng.permutation(len(images))[: plan.vqa]:
        image = images[int(index)]
        text = f"a {image.colour} {image.shape}"
        out.append(_captioned("vqa", Image.open(image.path).convert("RGB"), text, rng))
    for _ in range(plan.shapes):
        shape = deck.plain_shape(rng)
        picture, _ = single(draw_shape(shape, 120, rng), shape.kind, rng)
        out.append(_captioned("shape", picture, f"a {shape.phrase}", rng))
    return out


def examples(deck: Deck, plan: CaptionPlan) -> list[Example]:
    """All records of stage 1 in shuffled order; a function of the plan alone."""
    rng = np.random.default_rng(plan.seed)
    out = _art(deck, plan, rng) + _shapes(deck, plan, rng)
    casting = Casting(deck)
    for _ in range(plan.scenes):
        picture, scene = compose_scene(casting.different(int(rng.integers(2, 5)), rng), rng)
        out.append(_captioned("scene", picture, scene_caption(scene, rng), rng))
    return [out[int(i)] for i in rng.permutation(len(out))]


def build(work: Path, plan: CaptionPlan | None = None) -> None:
    """Write ``stage1/chat.json`` and ``stage1/images`` unless they exist."""
    if (work / "stage1" / "chat.json").is_file():
        return
    made = examples(Deck.open(work), plan or CaptionPlan())
    print(write(made, work / "stage1"), dict(Counter(e.kind for e in made)))


def main(argv: list[str] | None = None) -> int:
    """Write stage 1's records and pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    build(parser.parse_args(argv).work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
