"""Stage 2's largest part: one picture, one question, its name.

Short records are the point: a name costs the LM some 55 tokens, so that an hour on two cores sees
every emoji drawing. Half of the drawings are redrawn by another hand (`zoo.augment.style`), or the
LM would learn the names of the training artists' features only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from zoo import phrasing as say
from zoo.augment import LIT, frame, style
from zoo.clip_data import held_out, keeps_colours
from zoo.deck import Deck
from zoo.drawings import Drawing
from zoo.everyday import said
from zoo.general import general_of, share_of
from zoo.records import Example, Turn
from zoo.relief import lit
from zoo.scenes import single

Rng = np.random.Generator
RESTYLED, STRANGE_LIT = 0.5, 0.6
"""Shares of the drawings that another hand draws, and of things under a lamp among those that CLIP
never saw; among the others they are `zoo.augment.LIT` of what is redrawn."""
ROOM, SEEN = 8, 8
"""Pixels around a drawing that is bent, and the alpha from which it is there."""


def restyled(image: Image.Image, rng: Rng, bodies: float = LIT) -> Image.Image:
    """The same RGBA drawing by another hand: recoloured, outlined, posterised, as line art; or,
    in a share of ``bodies``, made a thing under a lamp."""
    return bodily(image, rng) if rng.random() < bodies else _changed(style, image, rng)


def bodily(image: Image.Image, rng: Rng) -> Image.Image:
    """The same RGBA drawing as a thing under a lamp, cropped to what became of it."""
    side = max(image.size) + max(image.size) % 2 + 2 * ROOM
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    made = _changed(lit, square, rng)
    seen = made.getchannel("A").point(lambda alpha: 255 if alpha > SEEN else 0).getbbox()
    return made.crop(seen or (0, 0, side, side))


def framed(image: Image.Image, rng: Rng) -> Image.Image:
    """The same RGBA drawing with a dark outline."""
    return _changed(frame, image, rng)


def _changed(
    change: Callable[[torch.Tensor, Rng], torch.Tensor], image: Image.Image, rng: Rng
) -> Image.Image:
    pixels = torch.from_numpy(np.array(image, np.float32) / 255).permute(2, 0, 1)[None]
    moved = change(pixels, rng)[0].permute(1, 2, 0).clamp(0, 1)
    return Image.fromarray((moved.numpy() * 255).round().astype(np.uint8), "RGBA")


def drawn(deck: Deck, row: int, rng: Rng) -> Image.Image:
    """The cut-out drawing, half of the time by another hand, always if CLIP never saw it."""
    image, drawing = deck.image(row), deck.drawing(row)
    strange = held_out(drawing)
    if rng.random() >= RESTYLED and not strange:
        return image
    if keeps_colours(drawing):
        return framed(image, rng)
    return restyled(image, rng, STRANGE_LIT if strange else LIT)


def answer_of(drawing: Drawing, rng: Rng) -> str:
    """The name (`zoo.everyday`), or now and then the general word (`zoo.general`)."""
    general = general_of(drawing)
    return general if rng.random() < share_of(general, held_out(drawing)) else said(drawing.concept)


def name_example(deck: Deck, row: int, rng: Rng) -> Example:
    """What is this? Its name; one time of ten with its kind, one of ten the keywords instead."""
    drawing = deck.drawing(row)
    picture, _ = single(drawn(deck, row, rng), drawing.concept, rng)
    turns: list[Turn] = [(say.name_question(rng), answer_of(drawing, rng))]
    words = [w for w in drawing.keywords if len(w) > 1]
    if words and rng.random() < 0.1:
        some = sorted(int(i) for i in rng.permutation(len(words))[:3])
        turns = [(say.pick(say.KEYWORDS, rng), ", ".join(words[i] for i in some))]
    return Example("name", tuple(turns), picture)
