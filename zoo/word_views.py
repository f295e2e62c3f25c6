"""What `zoo.words` learns from: features of pictures, and what each patch is to say.

All patches of a single drawing say its name, but for those beside a small one, which are not
asked. In a scene those of an object say that object, and those of the page how many there are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from neva.images import PixelRecipe, from_pixels
from zoo import vqa
from zoo.augment import compose, load, normalise
from zoo.clip_data import Item, Sampler, held_out, is_emoji, usable
from zoo.colours import COLOURS, SHAPES
from zoo.drawings import GLYPH, GRID, SIZE
from zoo.glyphs import GLYPHS, Typefaces
from zoo.mosaic_losses import places
from zoo.mosaics import Director, Mosaics, compose_mosaics
from zoo.scene_questions import NUMBERS
from zoo.scenes import single
from zoo.snapshots import Snapshots
from zoo.spelling import Speller, plain
from zoo.unsure import nothing

PATCHES = GRID * GRID
BATCH = 128
NOTHING = "nothing clear"
"""What a picture of nothing says: all drawings have a name, so without it one would be said."""
LARGE = 0.7
"""Beside drawings smaller than this share of the picture the page is not asked for the name."""


@dataclass(frozen=True)
class Pictures:
    """States ``(N, 65, Dv)`` bf16 of pictures, the class token's first, what each patch is to say
    ``(N, 64)`` as a row of ``texts`` or -1, how often its picture shows that ``(N, 64)`` or 0, and
    how often each picture is dealt ``(N,)``."""

    states: Tensor
    asked: Tensor
    copies: Tensor
    texts: tuple[str, ...]
    chance: Tensor

    def in_rows_of(self, speller: Speller) -> Pictures:
        """The same with the speller's rows for texts."""
        rows = F.pad(speller.rows(self.texts), (0, 1), value=-1)
        return replace(self, asked=rows[self.asked])


def words_of(item: Item) -> str:
    """What is read off a drawing: its name; a shape with its colour; a recoloured icon's ink."""
    if item.shape >= 0 and item.colour >= 0:
        return f"{list(COLOURS)[item.colour]} {SHAPES[item.shape]}"
    return plain(item.caption if item.ink is not None else item.concept)


def page_words(count: int) -> str:
    """What the page between the objects of a scene says."""
    return f"{NUMBERS[count]} background"


def items_of(sampler: Sampler, views: int, seed: int) -> list[Item]:
    """Every picture that is learned from: emoji and flags ``views`` times, all others once; without
    letters and signs, which `glyphs` draws anew."""
    rng = np.random.default_rng(seed)
    drawings = enumerate(sampler.gallery.drawings)
    rows = [i for i, d in drawings if usable(d) and not held_out(d) and d.kind != GLYPH]
    emoji = [i for i in rows if is_emoji(sampler.gallery.drawings[i])]
    out = [sampler.art(i, rng) for i in rows + emoji * (views - 1)]
    out += [sampler.shape(rng) for _ in sampler.shapes]
    return out + [sampler.picture(rng) for _ in sampler.vqa]


@torch.no_grad()
def states_of(tower: nn.Module, pixels: Tensor) -> Tensor:
    """Pictures ``(N, 3, 128, 128)`` in 0..1 -> what LLaVA's layer -2 says ``(N, 65, Dv)`` bf16."""
    kind = next(tower.parameters()).dtype
    parts = [tower(pixel_values=normalise(part).to(kind), output_hidden_states=True)
             for part in torch.split(pixels, BATCH)]  # fmt: skip
    return torch.cat([part.hidden_states[-2] for part in parts]).to(torch.bfloat16)


def inside(affine: Tensor) -> Tensor:
    """Which patches are asked for a drawing that lies by ``affine`` ``(B, 2, 3)``: ``(B, 64)``.

    All of a large drawing's; of a small one those whose centre is in its box, or the nearest.
    """
    centres = places() * (1 - 1 / GRID)
    there = torch.einsum("bij,pj->bpi", affine[:, :, :2], centres) + affine[:, None, :, 2]
    off = there.abs().amax(-1)
    large = affine[:, :, 0].norm(dim=1) < 1 / LARGE
    asked: Tensor = (off < 1) | (off == off.amin(1, keepdim=True)) | large[:, None]
    return asked


def singles(
    tower: nn.Module,
    sampler: Sampler,
    items: list[Item],
    share: float,
    seed: int,
) -> Pictures:
    """Pictures of one drawing. Each name of an emoji or flag is dealt equally often; all that is
    neither makes up ``share`` of what is dealt."""
    pixels = vqa.pixels(sampler.vqa)
    rng = np.random.default_rng(seed)
    texts = tuple(dict.fromkeys(words_of(item) for item in items))
    row = {text: place for place, text in enumerate(texts)}
    states, asked = [], []
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        views = compose(part, load(part, sampler, pixels), rng)
        states.append(states_of(tower, views.images))
        said = torch.tensor([row[words_of(item)] for item in part])[:, None]
        asked.append(torch.where(inside(views.affine), said, -1))
        if start % (100 * BATCH) == 0:
            print(f"states: {start:,} of {len(items):,}", flush=True)
    chance = named_alike(items, sampler, share)
    said = torch.cat(asked)
    return Pictures(torch.cat(states), said, (said >= 0).long(), texts, chance)


def alike(count: int) -> Tensor:
    """Each of ``count`` pictures is dealt equally often, ``(count,)``."""
    return torch.full((count,), 1 / count)


def named_alike(items: list[Item], sampler: Sampler, share: float) -> Tensor:
    """How often each item is dealt, ``(N,)``; sums to one."""
    drawings = sampler.gallery.drawings
    often = Counter(item.concept for item in items)
    emoji = torch.tensor([i.store == "art" and is_emoji(drawings[i.row]) for i in items])
    names = torch.tensor([1 / often[item.concept] for item in items]) * emoji
    rest = (~emoji).float()
    return (1 - share) * names / names.sum() + share * rest / rest.sum().clamp(min=1)


def scene_texts(mosaics: Mosaics) -> list[list[str]]:
    """What each patch of each scene is to say."""
    counts = mosaics.counts.tolist()
    return [
        [words_of(mosaics.items[one]) if one >= 0 else page_words(count) for one in owner]
        for owner, count in zip(mosaics.owner.tolist(), counts, strict=True)
    ]


def scenes(tower: nn.Module, sampler: Sampler, count: int, seed: int) -> Pictures:
    """Pictures of several drawings, dealt equally often."""
    director, rng = Director(sampler), np.random.default_rng([seed, 1])
    states: list[Tensor] = []
    copies: list[Tensor] = []
    texts: list[list[str]] = []
    for start in range(0, count, BATCH):
        part = compose_mosaics(director, min(BATCH, count - start), rng)
        states.append(states_of(tower, part.pixels))
        copies.append(torch.where(part.owner >= 0, part.copies[part.owner.clamp(min=0)], 0))
        texts += scene_texts(part)
    known = tuple(dict.fromkeys(text for row in texts for text in row))
    place = {text: n for n, text in enumerate(known)}
    asked = torch.tensor([[place[text] for text in row] for row in texts])
    return Pictures(torch.cat(states), asked, torch.cat(copies), known, alike(count))


def nothings(
    tower: nn.Module, count: int, seed: int, snapshots: Snapshots | None = None
) -> Pictures:
    """Pictures of nothing (`zoo.unsure`), whose patches say that there is nothing clear."""
    rng, states = np.random.default_rng([seed, 2]), []
    for start in range(0, count, BATCH):
        made = [nothing(rng, snapshots)[0] for _ in range(min(BATCH, count - start))]
        states.append(states_of(tower, padded(made)))
    asked = torch.zeros(count, PATCHES, dtype=torch.long)
    return Pictures(torch.cat(states), asked, torch.zeros_like(asked), (NOTHING,), alike(count))


def glyphs(tower: nn.Module, typefaces: Typefaces, count: int, seed: int) -> Pictures:
    """Pictures of one letter, digit or sign (`zoo.glyphs`), each name equally often."""
    rng, names = np.random.default_rng([seed, 3]), tuple(GLYPHS)
    states, asked = [], []
    for start in range(0, count, BATCH):
        made = []
        for number in range(start, min(start + BATCH, count)):
            name = names[number % len(names)]
            picture, scene = single(typefaces.draw(name, rng).image, name, rng)
            made.append(picture)
            own = boxed(scene.objects[0].box, picture.size)
            asked.append(torch.where(own, number % len(names), -1))
        states.append(states_of(tower, padded(made)))
    texts = tuple(plain(name) for name in names)
    said = torch.stack(asked)
    return Pictures(torch.cat(states), said, (said >= 0).long(), texts, alike(count))


def padded(pictures: list[Image.Image]) -> Tensor:
    """Pictures of any size as the model sees them, ``(N, 3, 128, 128)`` in 0..1."""
    recipe = PixelRecipe(SIZE, "pad")
    squares = np.stack([recipe.square(from_pixels(np.array(picture))) for picture in pictures])
    return torch.from_numpy(squares).permute(0, 3, 1, 2) / 255


def boxed(box: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """As `inside`, of a drawing in a ``box`` of a picture that is padded to a square: ``(64,)``."""
    side = max(size)
    left, top = ((side - length) / 2 for length in size)
    affine = torch.zeros(1, 2, 3)
    for axis, (low, high, off) in enumerate(((box[0], box[2], left), (box[1], box[3], top))):
        half = max(high - low, 1) / side
        affine[0, axis, axis] = 1 / half
        affine[0, axis, 2] = (1 - (low + high + 2 * off) / side) / half
    return inside(affine)[0]


def joined(one: Pictures, other: Pictures, share: float) -> Pictures:
    """Both; ``share`` of what is dealt is the other's."""
    moved = torch.where(other.asked >= 0, other.asked + len(one.texts), -1)
    return Pictures(
        torch.cat([one.states, other.states]),
        torch.cat([one.asked, moved]),
        torch.cat([one.copies, other.copies]),
        one.texts + other.texts,
        torch.cat([one.chance * (1 - share), other.chance * share]),
    )
