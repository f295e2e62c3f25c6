"""From items to CLIP pixels: style, place and scale, background, normalisation; in torch.

Drawings stay RGBA until the last moment. Every geometric change is one affine sampling whose
matrix is returned, so that the teacher's maps of the clean drawing can be moved the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.clip_data import Item, Sampler
from zoo.colours import COLOURS
from zoo.drawings import SIZE
from zoo.relief import lit

FLAT = (0.7, 1.05)
"""Artists give flags different proportions."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
BARRED = 0.4
"""Share of the pictures of one drawing that get bars beside it where there is room."""
LEAST_BAR = 3
"""Pixels of the narrowest bar that is drawn."""
LIT = 0.4
"""Share of the drawings by another hand that are made things under a lamp (`zoo.relief`)."""


@dataclass(frozen=True)
class Views:
    """Pixels ``(B, 3, 128, 128)`` in 0..1 and the affine ``(B, 2, 3)`` that placed the drawings."""

    images: Tensor
    affine: Tensor


def normalise(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` in 0..1 -> OpenAI CLIP's mean and spread."""
    mean = images.new_tensor(CLIP_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(CLIP_STD).view(1, 3, 1, 1)
    return (images - mean) / std


def load(items: list[Item], sampler: Sampler, vqa_pixels: np.ndarray) -> Tensor:
    """RGBA ``(B, 4, 128, 128)`` in 0..1 with straight alpha; mono icons take their ink."""
    out = np.full((len(items), SIZE, SIZE, 4), 255, np.uint8)
    for i, item in enumerate(items):
        if item.store == "art":
            out[i] = sampler.gallery.pixels[item.row]
        elif item.store == "shape":
            out[i] = sampler.shape_pixels[item.row]
        else:
            out[i, :, :, :3] = vqa_pixels[item.row]
        if item.ink is not None:
            out[i, :, :, :3] = item.ink
    return torch.from_numpy(out).permute(0, 3, 1, 2).float().div_(255.0)


def style(rgba: Tensor, rng: np.random.Generator) -> Tensor:
    """Another artist's hand: recolour, posterise, outline, line art. ``(N, 4, 128, 128)``."""
    count = len(rgba)
    colour, alpha = rgba[:, :3], rgba[:, 3:]
    mix = torch.from_numpy(rng.normal(0, 0.22, (count, 3, 3)).astype(np.float32))
    mix = mix + torch.eye(3)
    mix = mix / mix.sum(2, keepdim=True).clamp(min=0.4)
    moved = torch.einsum("nij,njhw->nihw", mix, colour).clamp(0, 1)
    gamma = torch.from_numpy(np.exp(rng.normal(0, 0.3, (count, 1, 1, 1))).astype(np.float32))
    moved = moved.clamp(min=1e-4) ** gamma
    levels = torch.from_numpy(rng.integers(3, 7, (count, 1, 1, 1)).astype(np.float32))
    flat = _chance(rng, count, 0.3)
    moved = torch.where(flat, (moved * levels).round() / levels, moved)
    grey = moved.mean(1, keepdim=True).expand_as(moved)
    moved = torch.where(_chance(rng, count, 0.12), grey, moved)
    edge = torch.where(_chance(rng, count, 0.5), _edges(moved, alpha, 5), _edges(moved, alpha, 7))
    ink = torch.where(_chance(rng, count, 0.45), edge, torch.zeros_like(edge))
    line = _chance(rng, count, 0.1)
    moved = torch.where(line, torch.ones_like(moved), moved) * (1 - ink)
    moved = torch.where(line, moved * (1 - edge), moved)
    return torch.cat([moved, alpha], 1)


def frame(rgba: Tensor, rng: np.random.Generator) -> Tensor:
    """A dark outline, 3 to 5 px, around what must keep its colours, which move a little.

    Flags and signs: OpenMoji outlines each of them, as none of the training artists does.
    """
    colour, alpha = rgba[:, :3], rgba[:, 3:]
    shift = torch.from_numpy(rng.normal(0, 0.05, (len(rgba), 3, 1, 1)).astype(np.float32))
    thick = torch.from_numpy(rng.integers(0, 2, (len(rgba), 1, 1, 1)))
    inner = torch.where(thick == 1, _inner(alpha, 11), _inner(alpha, 7))
    dark = torch.from_numpy(rng.uniform(0, 0.15, (len(rgba), 3, 1, 1)).astype(np.float32))
    moved = (colour + shift).clamp(0, 1)
    return torch.cat([moved * inner + dark * (1 - inner), alpha], 1)


def _inner(alpha: Tensor, wide: int) -> Tensor:
    """What is left of ``alpha`` half of ``wide`` pixels inside; beyond the picture is nothing."""
    return -greatest(-alpha, wide, beyond=0.0)


def greatest(x: Tensor, wide: int, beyond: float = -math.inf) -> Tensor:
    """The largest number in a window of ``wide`` (odd) around each; ``(N, C, H, W)`` as it was.

    By doubling: windows of 2, 4, ... numbers are the larger of two of half the size, which costs a
    fifth of `max_pool2d` on a CPU.
    """
    for across in (-1, -2):
        half, size, covered = wide // 2, x.shape[across], 1
        x = F.pad(x, (half, half, 0, 0) if across == -1 else (0, 0, half, half), value=beyond)
        while 2 * covered <= wide:
            rest = x.shape[across] - covered
            x = torch.maximum(x.narrow(across, 0, rest), x.narrow(across, covered, rest))
            covered *= 2
        x = torch.maximum(x.narrow(across, 0, size), x.narrow(across, wide - covered, size))
    return x


def redrawn(items: list[Item], rgba: Tensor, rng: np.random.Generator) -> Tensor:
    """Drawings ``(N, 4, 128, 128)`` by another hand where the items say so; changed in place."""
    styled = np.array([n for n, item in enumerate(items) if item.style], dtype=int)
    bodily = rng.random(len(styled)) < LIT
    for rows, change in (
        (styled[~bodily].tolist(), style),
        (styled[bodily].tolist(), lit),
        ([n for n, item in enumerate(items) if item.framed], frame),
    ):
        if rows:
            rgba[rows] = change(rgba[rows], rng)
    return rgba


def _edges(colour: Tensor, alpha: Tensor, wide: int) -> Tensor:
    """Where colour or alpha changes, in a window ``wide`` pixels: ``(N, 1, 128, 128)`` in 0..1."""
    solid = torch.cat([colour * alpha, alpha], 1)
    spread = greatest(solid, wide) + greatest(-solid, wide)
    return (spread.amax(1, keepdim=True) * 2.2 - 0.35).clamp(0, 1)


def _chance(rng: np.random.Generator, count: int, share: float) -> Tensor:
    return torch.from_numpy(rng.random((count, 1, 1, 1)) < share)


def place(items: list[Item], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Affine matrices ``(B, 2, 3)`` for `affine_grid` and the drawings' scales ``(B,)``."""
    scales = np.empty(len(items))
    matrices = np.zeros((len(items), 2, 3), np.float32)
    for i, item in enumerate(items):
        if item.store == "vqa":
            scale, turn, reach = rng.uniform(1.0, 1.12), 0.0, 0.05
        elif item.wide:
            low = 0.2 if item.store == "shape" else 0.4
            scale, turn = rng.uniform(low, 1.0), rng.normal(0, 0.07)
            reach = 1.0 - scale
        else:
            scale, turn, reach = rng.uniform(0.88, 1.1), rng.normal(0, 0.07), 0.1
        dx, dy = rng.uniform(-reach, reach, 2)
        cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
        flat = rng.uniform(*FLAT) if item.concept.startswith("flag: ") else 1.0
        matrices[i] = [[cos, sin, -(cos * dx + sin * dy)], [-sin, cos, -(-sin * dx + cos * dy)]]
        matrices[i][1] /= flat
        scales[i] = scale
    return torch.from_numpy(matrices), torch.from_numpy(scales.astype(np.float32))


def backgrounds(items: list[Item], rng: np.random.Generator) -> Tensor:
    """Backgrounds ``(B, 3, 128, 128)``: half of them white, else light, any, gradient, noise."""
    count = len(items)
    kinds = rng.choice(5, count, p=[0.5, 0.22, 0.12, 0.1, 0.06])
    solid = np.ones((count, 3), np.float32)
    light = rng.uniform(0.8, 1.0, (count, 3))
    free = rng.uniform(0.0, 1.0, (count, 3))
    for i, item in enumerate(items):
        dark_ink = item.ink is None or max(item.ink) < 200
        if kinds[i] in (1, 3, 4) or (kinds[i] == 2 and item.store == "shape"):
            solid[i] = light[i]
        elif kinds[i] == 2:
            solid[i] = free[i] * 0.5 + 0.5 if item.ink is not None and dark_ink else free[i]
    back = torch.from_numpy(solid).view(count, 3, 1, 1).expand(-1, -1, SIZE, SIZE).clone()
    ramp = torch.linspace(-0.25, 0.1, SIZE)
    for i in np.flatnonzero(kinds == 3).tolist():
        back[i] += ramp.view(1, -1, 1) if rng.random() < 0.5 else ramp.view(1, 1, -1)
    for i in np.flatnonzero(kinds == 4).tolist():
        back[i] += torch.from_numpy(rng.normal(0, 0.06, (3, SIZE, SIZE)).astype(np.float32))
    for i, item in enumerate(items):
        if item.store == "shape":
            back[i] = _contrast(back[i], item)
    return back.clamp_(0, 1)


def _contrast(back: Tensor, item: Item) -> Tensor:
    """A white shape needs a dark or coloured background."""
    white = item.colour == list(COLOURS).index("white")
    return back * torch.tensor([0.35, 0.45, 0.6]).view(3, 1, 1) if white else back


def compose(items: list[Item], rgba: Tensor, rng: np.random.Generator) -> Views:
    """Place RGBA drawings on backgrounds."""
    rgba = redrawn(items, rgba, rng)
    affine, scales = place(items, rng)
    solid = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
    small = scales < 0.62
    if small.any():
        solid[small] = F.interpolate(F.avg_pool2d(solid[small], 2), SIZE, mode="bilinear")
    grid = F.affine_grid(affine, [len(items), 4, SIZE, SIZE], align_corners=False)
    whole = torch.tensor([item.store == "vqa" for item in items])
    moved = F.grid_sample(solid, grid, padding_mode="zeros", align_corners=False)
    if whole.any():
        moved[whole] = F.grid_sample(
            solid[whole], grid[whole], padding_mode="border", align_corners=False
        )
    images = moved[:, :3] + backgrounds(items, rng) * (1 - moved[:, 3:])
    return Views(barred(images, moved[:, 3], rng), affine)


def barred(images: Tensor, alpha: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures ``(B, 3, 128, 128)`` as if some had been no squares, with the bars of padding.

    The bars have CLIP's mean colour (LLaVA 1.5's *pad*) and reach, half of the time, up to the
    drawing, whose ``alpha`` is ``(B, 128, 128)``, as in a picture that was cut out. What fills its
    picture gets none. ``images`` is changed in place.
    """
    mean = torch.tensor(CLIP_MEAN).view(3, 1, 1)
    covered = alpha > 0.05
    across, along = (room_beside(covered.any(axis)) for axis in (1, 2))
    for i in np.flatnonzero(rng.random(len(images)) < BARRED).tolist():
        room = max(across[i], along[i])
        wide = round(room * (1.0 if rng.random() < 0.5 else rng.uniform(0.2, 1.0)))
        if wide >= LEAST_BAR:
            page = images[i] if across[i] >= along[i] else images[i].mT
            page[:, :, :wide] = page[:, :, SIZE - wide :] = mean
    return images


def room_beside(line: Tensor) -> list[int]:
    """Pixels that are free on both sides of what is covered, ``(B, 128)`` bool; 0 of nothing."""
    first = line.int().argmax(1)
    last = line.flip(1).int().argmax(1)
    room: list[int] = (torch.minimum(first, last) * line.any(1)).tolist()
    return room


def move_maps(maps: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
    """Teacher maps ``(B, C, s, s)`` moved as the drawings were, and the mask of known places."""
    size = [*maps.shape]
    grid = F.affine_grid(affine, size, align_corners=False)
    ones = torch.ones_like(maps[:, :1])
    moved = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    known = F.grid_sample(ones, grid, padding_mode="zeros", align_corners=False)
    return moved, (known > 0.5).float()
