"""Training batches for CLIP: what is sampled, with which words; pixels come from `zoo.augment`.

A batch of 128 is 10 shape pictures (easy-VQA train and our own), 96 emoji (48 concepts, each in
two artists' drawings where there are two) and 22 other icons, recoloured mono icons and flags.
A batch is a function of (seed, step) alone, so that a resumed run sees the same data.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo import vqa
from zoo.colours import COLOURS, SHAPES, Shape, draw_shape, shade
from zoo.drawings import GLYPH, SIZE, Drawing, Gallery
from zoo.names import says_colour

OWN_SHAPES = 6000
SHAPES_FILE = "shapes-4.npy"
"""The cache of our own shapes; its number changes with what `draw_shape` draws."""
REDRAWN = 0.7
"""How often a drawing comes by another hand (`zoo.augment.redrawn`)."""
HELD_OUT = 26
"""Of 256: the share of emoji drawings that `held_out` keeps from CLIP."""
MONO_INKS = ("black", *("black",) * 4, *[c for c in COLOURS if c not in ("white", "gray")])


@dataclass(frozen=True)
class Item:
    """One sample before pixels: where its drawing is, what it says, how it may be changed."""

    store: str
    """``art``, ``shape`` (ours) or ``vqa``."""
    row: int
    concept: str
    caption: str
    ink: tuple[int, int, int] | None = None
    style: bool = False
    framed: bool = False
    """Whether it gets a dark outline and keeps its colours, which its name speaks of."""
    wide: bool = False
    shape: int = -1
    colour: int = -1


def usable(drawing: Drawing) -> bool:
    """Whether a drawing's name can be read: old fxemoji names without a codepoint cannot."""
    nameless = drawing.kind == "emoji" and not drawing.codepoint
    return not (nameless and (drawing.set_name == "fxemoji" or "tone" in drawing.concept))


def held_out(drawing: Drawing) -> bool:
    """Whether CLIP never sees it: one emoji drawing of ten, by a hash of whose it is.

    Stage 2 learns from these what tokens are like where CLIP is not sure (`zoo.general`).
    """
    if drawing.kind != "emoji" or drawing.group == "flags":
        return False
    key = f"{drawing.set_name}/{drawing.identifier}".encode()
    return hashlib.sha256(key).digest()[0] < HELD_OUT


def is_emoji(drawing: Drawing) -> bool:
    """Whether it is an emoji or a flag, or a colour icon that is named as one."""
    return drawing.kind in ("emoji", "flag") or (drawing.kind == "icon" and bool(drawing.codepoint))


def keeps_colours(drawing: Drawing) -> bool:
    """Whether it is known by its colours: flags, symbols, names that say a colour."""
    return says_colour(drawing.concept) or drawing.group in ("flags", "symbols")


def own_shapes(work: Path, seed: int = 5) -> tuple[list[Shape], npt.NDArray[np.uint8]]:
    """Our own plain shapes ``(6000, 128, 128, 4)``, drawn once and cached."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    shapes = []
    for i in range(OWN_SHAPES):
        kind = SHAPES[i % 3] if rng.random() < 0.4 else SHAPES[int(rng.integers(len(SHAPES)))]
        shapes.append(Shape(kind, names[int(rng.integers(len(names)))]))
    path = work / SHAPES_FILE
    if not path.is_file():
        canvas = np.zeros((OWN_SHAPES, SIZE, SIZE, 4), np.uint8)
        for i, shape in enumerate(shapes):
            image = np.asarray(draw_shape(shape, SIZE - 6, rng))
            top, left = (SIZE - image.shape[0]) // 2, (SIZE - image.shape[1]) // 2
            canvas[i, top : top + image.shape[0], left : left + image.shape[1]] = image
        np.save(path, canvas)
    return shapes, np.load(path)


@dataclass(frozen=True)
class Mix:
    """How many of each kind one batch has; of ``concepts`` two drawings each."""

    pictures: int = 4
    shapes: int = 6
    concepts: int = 48
    icons: int = 12
    monos: int = 8
    flags: int = 2


class Sampler:
    """Draws batches of items."""

    def __init__(self, work: Path, seed: int = 0) -> None:
        self.gallery = Gallery.open(work / "drawings")
        self.seed = seed
        self.shapes, self.shape_pixels = own_shapes(work)
        self.vqa = vqa.train_images()[: -vqa.HELD_OUT]
        self.by_concept: dict[str, list[int]] = defaultdict(list)
        self.icons: list[int] = []
        self.monos: list[int] = []
        self.flags: list[int] = []
        for i, d in enumerate(self.gallery.drawings):
            if usable(d) and not held_out(d):
                self._place(i, d)
        self.concepts = sorted(self.by_concept)

    def _place(self, row: int, drawing: Drawing) -> None:
        """An icon that is named as an emoji is one more artist's drawing of it."""
        if drawing.codepoint or drawing.kind in ("emoji", "flag", GLYPH):
            self.by_concept[drawing.concept].append(row)
        if drawing.kind == "icon":
            self.icons.append(row)
        elif drawing.kind == "mono":
            self.monos.append(row)
        elif drawing.kind == "flag":
            self.flags.append(row)

    def batch(self, step: int, mix: Mix | None = None) -> list[Item]:
        """The items of one step."""
        mix = mix or Mix()
        rng = np.random.default_rng([self.seed, step])
        items = [self.picture(rng) for _ in range(mix.pictures)]
        items += [self.shape(rng) for _ in range(mix.shapes)]
        for concept in rng.choice(len(self.concepts), mix.concepts, replace=False):
            rows = self.by_concept[self.concepts[int(concept)]]
            picked = rng.choice(rows, 2, replace=len(rows) < 2)
            items += [self.art(int(r), rng) for r in picked]
        others = ((self.icons, mix.icons), (self.monos, mix.monos), (self.flags, mix.flags))
        for rows, count in others:
            items += [self.art(int(r), rng) for r in rng.choice(rows, count, replace=False)]
        return items

    def picture(self, rng: np.random.Generator) -> Item:
        row = int(rng.integers(len(self.vqa)))
        image = self.vqa[row]
        return _shape_item("vqa", row, image.shape or "shape", image.colour, rng)

    def shape(self, rng: np.random.Generator) -> Item:
        row = int(rng.integers(len(self.shapes)))
        shape = self.shapes[row]
        return _shape_item("shape", row, shape.kind, shape.colour, rng)

    def art(self, row: int, rng: np.random.Generator) -> Item:
        drawing = self.gallery.drawings[row]
        caption, ink = caption_of(drawing, rng), None
        if drawing.kind == "mono":
            name = MONO_INKS[int(rng.integers(len(MONO_INKS)))]
            ink = shade(name, rng)
            if rng.random() < 0.5:
                caption = f"{name} {drawing.concept}"
        keeps = keeps_colours(drawing)
        redrawn = drawing.kind != "mono" and rng.random() < REDRAWN
        return Item(
            "art",
            row,
            drawing.concept,
            caption,
            ink,
            style=redrawn and not keeps,
            framed=redrawn and keeps,
            wide=rng.random() < 0.3,
        )


def _shape_item(store: str, row: int, kind: str, colour: str, rng: np.random.Generator) -> Item:
    phrase = f"{colour} {kind}".strip()
    caption = (phrase, f"a {phrase}", kind if kind != "shape" else phrase)[int(rng.integers(3))]
    return Item(
        store,
        row,
        phrase if caption != kind else kind,
        caption,
        wide=store == "shape",
        shape=SHAPES.index(kind) if kind in SHAPES else -1,
        colour=list(COLOURS).index(colour) if colour else -1,
    )


def caption_of(drawing: Drawing, rng: np.random.Generator) -> str:
    """One caption of a drawing: its name, often alone, sometimes with or as keywords."""
    name, words = drawing.concept, drawing.keywords
    if drawing.group == "flags" and name.startswith("flag: ") and rng.random() < 0.4:
        return f"the flag of {name[6:]}"
    dice = rng.random()
    if words and dice < 0.25:
        some = [words[int(i)] for i in rng.permutation(len(words))[:2]]
        return f"{name}, {', '.join(some)}"
    if words and dice < 0.35:
        return ", ".join(words[int(i)] for i in rng.permutation(len(words))[:3])
    if dice < 0.5:
        return f"a picture of {name}"
    return name


def corpus(sampler: Sampler, rounds: int = 150) -> list[str]:
    """Captions of many batches: the text the tokenizer is fitted on."""
    texts = [d.concept for d in sampler.gallery.drawings if usable(d)]
    for step in range(rounds):
        texts += [item.caption for item in sampler.batch(step)]
    return texts
