"""What the patches of a scene are asked: whose they are, its shape and colour, where, how many.

A patch of an object is also asked how many of the objects are what it is (``copies``): an LM that
is to count looks at what it was asked for, and finds the number there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.clip_losses import Targets
from zoo.clip_model import Student
from zoo.colours import COLOURS, SHAPES
from zoo.drawings import GRID
from zoo.mosaics import MOST, Mosaics
from zoo.share import quick


class SceneHeads(nn.Module):
    """Heads on single patches of layer -2; they exist only while CLIP is trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.thing = nn.Linear(width, 1)
        self.shape = nn.Linear(width, len(SHAPES))
        self.colour = nn.Linear(width, len(COLOURS))
        self.count = nn.Linear(width, MOST)
        self.copies = nn.Linear(width, MOST)
        self.place = nn.Linear(width, 2)


def places() -> Tensor:
    """Where each patch is, ``(64, 2)``: x and y from -1 to 1."""
    line = torch.linspace(-1, 1, GRID)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).flatten(0, 1)


def scene_losses(
    student: Student, heads: SceneHeads, targets: Targets, mosaics: Mosaics, patches: Tensor
) -> dict[str, Tensor]:
    """All weighted losses of scenes whose patches of layer -2 are ``patches`` ``(S, 64, 192)``."""
    owned = mosaics.owner >= 0
    whose = mosaics.owner[owned]
    mine = patches[owned]
    with quick():
        inner = student.patch_names(student.patch_norm(mine)).float()
        seen, all_seen = heads.norm(mine), heads.norm(patches)
        shape, colour = heads.shape(seen).float(), heads.colour(seen).float()
        copies = heads.copies(seen).float()
        thing = heads.thing(all_seen)[..., 0].float()
        count = heads.count(all_seen[~owned]).float()
        place = heads.place(all_seen).float()
    numbers = targets.numbers(mosaics.items)[whose]
    named = numbers >= 0
    inner = F.normalize(inner, dim=-1)
    art = [n for n, item in enumerate(mosaics.items) if item.store == "art"]
    aims = torch.zeros(len(mosaics.items), inner.shape[1])
    aims[art] = targets.aims([mosaics.items[n] for n in art])
    drawn = torch.tensor([item.store == "art" for item in mosaics.items])[whose]
    shapes = torch.tensor([item.shape for item in mosaics.items])[whose]
    colours = torch.tensor([item.colour for item in mosaics.items])[whose]
    many = (mosaics.counts - 1)[:, None].expand(owned.shape)[~owned]
    return {
        "s_name": F.cross_entropy(student.name_logits(inner[named]), numbers[named]),
        "s_aim": (1 - (inner[drawn] * aims[whose][drawn]).sum(1)).mean(),
        "s_shape": 0.5 * F.cross_entropy(shape, shapes, ignore_index=-1),
        "s_colour": 0.5 * F.cross_entropy(colour, colours, ignore_index=-1),
        "s_thing": F.binary_cross_entropy_with_logits(thing, owned.float()),
        "s_count": 0.5 * F.cross_entropy(count, many),
        "s_copies": 0.5 * F.cross_entropy(copies, mosaics.copies[whose] - 1),
        "s_place": 0.5 * F.mse_loss(place, places().expand(place.shape)),
    }
