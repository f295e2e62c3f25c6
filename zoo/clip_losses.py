"""What the student is asked: contrast, names, prototypes, the teacher's maps, shapes, colours.

Weights of the losses are those of Part 2 of the facts; the heads on the patches of layer -2
(names, aims, shapes and colours) are additions, because LLaVA reads those patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.augment import move_maps
from zoo.clip_data import Item, Sampler, usable
from zoo.clip_model import Student
from zoo.drawings import GRID
from zoo.share import quick
from zoo.teacher import members


class Targets:
    """The teacher's side: names with prototypes, image vectors, maps."""

    def __init__(self, work: Path, sampler: Sampler) -> None:
        folder = work / "teacher"
        self.vectors = np.load(folder / "vectors.npy")
        self.middle = np.load(folder / "middle.npy")
        self.late = np.load(folder / "late.npy")
        drawings = sampler.gallery.drawings
        groups = {
            c: rows
            for c, rows in members([d.concept for d in drawings]).items()
            if usable(drawings[rows[0]])
            and (len(rows) > 1 or drawings[rows[0]].kind in ("emoji", "flag"))
        }
        self.number = {c: i for i, c in enumerate(groups)}
        means = np.stack([self.vectors[r].mean(0) for r in groups.values()])
        self.prototypes = torch.from_numpy(means / np.linalg.norm(means, axis=1, keepdims=True))

    def aims(self, items: list[Item]) -> Tensor:
        """Unit vectors ``(B, 256)``: concept prototype plus half the teacher's image vector."""
        rows = [i.row for i in items]
        image = F.normalize(torch.from_numpy(self.vectors[rows]), dim=-1)
        numbers = self.numbers(items)
        proto = self.prototypes[numbers.clamp(min=0)] * (numbers >= 0).float()[:, None]
        return F.normalize(proto + 0.5 * image, dim=-1)

    def numbers(self, items: list[Item]) -> Tensor:
        """Name numbers ``(B,)``, -1 for a name without a prototype."""
        return torch.tensor([self.number.get(i.concept, -1) for i in items])

    def maps(self, items: list[Item]) -> tuple[Tensor, Tensor]:
        """The teacher's maps of the clean drawings."""
        rows = [i.row for i in items]
        return (
            torch.from_numpy(self.middle[rows].astype(np.float32)),
            torch.from_numpy(self.late[rows].astype(np.float32)),
        )


def contrast(images: Tensor, texts: Tensor, scale: Tensor, items: list[Item]) -> Tensor:
    """Multi-positive contrast: samples of one concept are all each other's positives."""
    concepts = [i.concept for i in items]
    place = {c: n for n, c in enumerate(dict.fromkeys(concepts))}
    codes = torch.tensor([place[c] for c in concepts])
    same = (codes[:, None] == codes[None, :]).float()
    target = same / same.sum(1, keepdim=True)
    logits = scale.clamp(max=math.log(60.0)).exp() * images @ texts.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def dense(student: Student, patches: Tensor, maps: tuple[Tensor, Tensor], at: Tensor) -> Tensor:
    """Smooth L1 from patches ``(N, 64, 192)`` to the teacher's moved maps, where known."""
    grid = patches.mT.reshape(len(patches), -1, GRID, GRID)
    total = patches.new_zeros((), dtype=torch.float32)
    for head, aim, pool in ((student.middle, maps[0], 1), (student.late, maps[1], 2)):
        moved, known = move_maps(aim, at)
        guess = head(F.avg_pool2d(grid, pool).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).float()
        spread = moved.std().clamp(min=1e-3)
        loss = F.smooth_l1_loss(guess, moved / spread, reduction="none").mean(1, keepdim=True)
        total = total + (loss * known).sum() / known.sum().clamp(min=1)
    return total / 2


@dataclass(frozen=True)
class Batch:
    """What one step is fed: items, pixels ``(B, 3, 128, 128)``, their affine, text ids and mask."""

    items: list[Item]
    pixels: Tensor
    affine: Tensor
    text: tuple[Tensor, Tensor]


def losses(
    student: Student, targets: Targets, batch: Batch, images: Tensor, patches: Tensor
) -> dict[str, Tensor]:
    """All weighted losses of one batch, whose pictures gave ``images`` and ``patches``."""
    items = batch.items
    with quick():
        texts = student.read(*batch.text)
        pooled = torch.cat([patches.mean(1), patches.amax(1)], 1)
        shape, colour = student.shape(pooled).float(), student.colour(pooled).float()
        inner = student.patch_names(student.patch_norm(patches.mean(1))).float()
    numbers = targets.numbers(items)
    named = numbers >= 0
    names = F.normalize(student.names, dim=-1)[numbers[named]]
    art = torch.tensor([n for n, i in enumerate(items) if i.store == "art"])
    tight = torch.tensor([n for n, i in enumerate(items) if i.store == "art" and not i.wide])
    tight = tight[: int(0.6 * len(items))]
    aims = targets.aims([items[n] for n in art.tolist()])
    inner = F.normalize(inner, dim=-1)
    maps = targets.maps([items[n] for n in tight.tolist()])
    shapes = torch.tensor([i.shape for i in items])
    colours = torch.tensor([i.colour for i in items])
    ask = student.name_logits
    return {
        "contrast": contrast(images, texts, student.clip.logit_scale, items),
        "name": F.cross_entropy(ask(images[named]), numbers[named], label_smoothing=0.05),
        "text": 0.5 * (1 - (texts[named] * names.detach()).sum(1)).mean(),
        "aim": 2.0 * (1 - (images[art] * aims).sum(1)).mean(),
        "patch_name": 1.0 * F.cross_entropy(ask(inner[named]), numbers[named]),
        "patch_aim": 1.0 * (1 - (inner[art] * aims).sum(1)).mean(),
        "dense": dense(student, patches[tight].float(), maps, batch.affine[tight]),
        "shape": 0.3 * F.cross_entropy(shape, shapes, ignore_index=-1),
        "colour": 0.3 * F.cross_entropy(colour, colours, ignore_index=-1),
    }
