"""Scenes for CLIP: several drawings in one picture, and whose each patch is.

Single drawings teach a patch what the whole picture shows. That is why run 2's image tokens said
the same thing everywhere and scenes could not be read. Here one to five drawings or plain shapes
lie scattered over a picture, and each of the 64 patches is told which of them it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.augment import CLIP_MEAN, load, redrawn
from zoo.clip_data import Item, Sampler
from zoo.colours import HEART
from zoo.deck import OBJECT_GROUPS
from zoo.drawings import GRID, SIZE

MOST = 5
SIDES = {1: (0.2, 0.62), 2: (0.2, 0.5), 3: (0.2, 0.42), 4: (0.2, 0.36), 5: (0.19, 0.33)}
"""Number of objects -> their sides as shares of the picture's."""
CROWDED = 0.5
"""Share of the scenes of two objects or more that show one of them several times."""
OWNED = 0.15
"""A patch belongs to an object that covers at least this much of it."""
Rng = np.random.Generator
Box = tuple[int, int, int]


@dataclass(frozen=True)
class Mosaics:
    """Pixels ``(S, 3, 128, 128)`` in 0..1, each patch's object ``(S, 64)`` as a row of ``items`` or
    -1, how many objects each scene has ``(S,)``, and how often each item's scene shows what it is
    ``(items,)``."""

    pixels: Tensor
    items: list[Item]
    owner: Tensor
    counts: Tensor
    copies: Tensor


class Director:
    """Chooses what stands in a scene."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        drawings = sampler.gallery.drawings
        groups = {c: drawings[rows[0]].group for c, rows in sampler.by_concept.items()}
        self.things = [c for c in sampler.concepts if groups[c] in OBJECT_GROUPS]
        self.hearts = [c for c in sampler.concepts if is_heart(c)]

    def cast(self, count: int, rng: Rng) -> list[Item]:
        """``count`` objects; half of the time copies of one, alone or beside one or two others.

        Copies are not redrawn by another hand, since each would get its own.
        """
        copies = 1
        if count > 1 and rng.random() < CROWDED:
            copies = count - int(rng.integers(min(2, count - 2) + 1))
        first = self.actor(rng)
        if copies > 1:
            first = replace(first, style=False, framed=False)
        return [first] * copies + [self.actor(rng) for _ in range(count - copies)]

    def actor(self, rng: Rng) -> Item:
        """A thing, a plain shape (but a white one), a heart, or any emoji."""
        dice = rng.random()
        if dice < 0.36:
            item = self.sampler.shape(rng)
            while item.caption.startswith("white") or item.concept.startswith("white"):
                item = self.sampler.shape(rng)
            return item
        pool = self.hearts if dice < 0.4 else self.things if dice < 0.9 else []
        pool = pool or self.sampler.concepts
        rows = self.sampler.by_concept[pool[int(rng.integers(len(pool)))]]
        return self.sampler.art(int(rows[int(rng.integers(len(rows)))]), rng)


def is_heart(concept: str) -> bool:
    """``red heart``, ``blue heart`` and so on, which are plain shapes to a person."""
    words = concept.split()
    return len(words) == 2 and words[1] == HEART


def scatter(count: int, frame: tuple[int, int, int, int], rng: Rng) -> list[Box]:
    """Boxes ``(left, top, side)`` in pixels without overlap, in ``frame`` (left, top, w, h)."""
    left, top, width, height = frame
    low, high = SIDES[count]
    shrink = 1.0
    while True:
        boxes: list[Box] = []
        for _ in range(count):
            side = round(SIZE * shrink * rng.uniform(low, high))
            side = max(8, min(side, width, height))
            for _ in range(40):
                x = left + int(rng.integers(0, width - side + 1))
                y = top + int(rng.integers(0, height - side + 1))
                if all(_apart((x, y, side), box) for box in boxes):
                    boxes.append((x, y, side))
                    break
        if len(boxes) == count:
            return boxes
        shrink *= 0.92


def _apart(one: Box, other: Box) -> bool:
    return (
        one[0] >= other[0] + other[2]
        or other[0] >= one[0] + one[2]
        or one[1] >= other[1] + other[2]
        or other[1] >= one[1] + one[2]
    )


def page(rng: Rng) -> tuple[Tensor, tuple[int, int, int, int]]:
    """A background ``(3, 128, 128)`` and the frame on it; one of four with the bars of padding."""
    dice = rng.random()
    low = 1.0 if dice < 0.5 else 0.8 if dice < 0.92 else 0.35
    colour = torch.from_numpy(rng.uniform(low, 1.0, 3).astype(np.float32)).view(3, 1, 1)
    back = colour.expand(3, SIZE, SIZE).clone()
    if rng.random() < 0.1:
        ramp = torch.linspace(-0.2, 0.05, SIZE).view(1, -1, 1)
        back = (back + (ramp if rng.random() < 0.5 else ramp.mT)).clamp(0, 1)
    if rng.random() >= 0.25:
        return back, (0, 0, SIZE, SIZE)
    short = int(SIZE * rng.uniform(0.34, 0.85))
    start = (SIZE - short) // 2
    bars = torch.tensor(CLIP_MEAN).view(3, 1, 1).expand(3, SIZE, SIZE).clone()
    if rng.random() < 0.6:
        bars[:, start : start + short] = back[:, start : start + short]
        return bars, (0, start, SIZE, short)
    bars[:, :, start : start + short] = back[:, :, start : start + short]
    return bars, (start, 0, short, SIZE)


def compose_mosaics(director: Director, scenes: int, rng: Rng) -> Mosaics:
    """Draw ``scenes`` scenes; a function of the generator."""
    counts = rng.integers(1, MOST + 1, scenes)
    casts = [director.cast(int(count), rng) for count in counts]
    items = [item for cast in casts for item in cast]
    rgba = redrawn(items, load(items, director.sampler, np.zeros((0,), np.uint8)), rng)
    solid = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
    pixels = torch.empty(scenes, 3, SIZE, SIZE)
    owner = torch.full((scenes, GRID * GRID), -1)
    start = 0
    for scene, count in enumerate(counts.tolist()):
        back, frame = page(rng)
        boxes = scatter(count, frame, rng)
        whose = torch.zeros(count, SIZE, SIZE)
        for place, (x, y, side) in enumerate(boxes):
            drawn = _small(solid[start + place], side)
            part = back[:, y : y + side, x : x + side]
            back[:, y : y + side, x : x + side] = drawn[:3] + part * (1 - drawn[3:])
            whose[place, y : y + side, x : x + side] = drawn[3]
        cover, who = F.avg_pool2d(whose, SIZE // GRID).flatten(1).max(0)
        owner[scene] = torch.where(cover > OWNED, who + start, -1)
        pixels[scene] = back
        start += count
    copies = torch.tensor([number for cast in casts for number in copies_in(cast)])
    return Mosaics(_weathered(pixels, rng), items, owner, torch.from_numpy(counts), copies)


def copies_in(cast: list[Item]) -> list[int]:
    """Of each object of a scene, how many of the scene's objects are called as it is."""
    called = [(item.concept, item.ink) for item in cast]
    return [called.count(one) for one in called]


def _small(drawing: Tensor, side: int) -> Tensor:
    """``(4, 128, 128)`` -> ``(4, side, side)``, without aliasing."""
    shape = (side, side)
    return F.interpolate(drawing[None], shape, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _weathered(pixels: Tensor, rng: Rng) -> Tensor:
    """One scene of eight a little blurred."""
    blurred: npt.NDArray[np.bool_] = rng.random(len(pixels)) < 0.125
    rows = np.flatnonzero(blurred).tolist()
    if rows:
        pixels[rows] = F.avg_pool2d(F.pad(pixels[rows], (1, 1, 1, 1), mode="replicate"), 3, 1)
    return pixels.clamp_(0, 1)
