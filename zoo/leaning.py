"""How image tokens lean: where they are, and how many there are of what they show.

CLIP's patches know both (`zoo.mosaic_losses`: linear heads on layer -2), but a projector that
learns names by gradient picks little of it up: of a place it said a third. So what a linear map
finds is kept clear of the names' codes (`zoo.recall`) and passed on from the start; then it learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.mosaic_losses import places
from zoo.mosaics import MOST
from zoo.recall import Recaller, all_patches
from zoo.revive import ridge
from zoo.spelling import Words
from zoo.word_views import Pictures

SAMPLED = 4096
"""Pictures that the linear maps are fitted on."""


def targets(at: Tensor, copies: Tensor, place: float, number: float) -> Tensor:
    """What tokens ``at`` ``(..., 2)``, of things that are there ``copies`` ``(...)`` times, are to
    lean ``(..., 7)``, in words' lengths: ``place`` at the edge, ``number`` for their number."""
    often = number * F.one_hot(copies, MOST + 1)[..., 1:].float()
    return torch.cat([-place * at, often.expand(*at.shape[:-1], MOST)], -1)


@dataclass(frozen=True)
class Sample:
    """States ``(N, 65, Dv)``, and of those patches whose thing is asked ``(N, 64)`` how they are to
    lean ``(N, 64, 7)``."""

    states: Tensor
    asked: Tensor
    leans: Tensor

    def directions(self) -> Tensor:
        """What a linear map reads them off: an orthonormal basis ``(Dv, 7)``, the place's first."""
        read = _fitted(self.states[:, 1:][self.asked], self.leans[self.asked])[:, :-1]
        basis: Tensor = torch.linalg.qr(read.T).Q
        return basis


def sampled(pictures: Pictures, place: float, number: float) -> Sample:
    """Some pictures, as they are dealt."""
    chosen = torch.multinomial(pictures.chance, SAMPLED, replacement=True)
    copies = pictures.copies[chosen]
    leans = targets(places().expand(len(chosen), -1, -1), copies, place, number)
    return Sample(pictures.states[chosen].float(), copies > 0, leans)


def _fitted(patches: Tensor, leans: Tensor) -> Tensor:
    """The map ``(7, Dv + 1)`` of patches ``(N, Dv)`` and a one to ``leans`` ``(N, 7)``."""
    return ridge(F.pad(patches, (0, 1), value=1.0), leans)


@torch.no_grad()
def lean_on(recaller: Recaller, sample: Sample, words: Words) -> None:
    """Let the last of the projector's hidden units pass on how a patch leans."""
    patches = recaller.remembered(sample.states, all_patches(sample.states))
    read = _fitted(patches[sample.asked], sample.leans[sample.asked])
    one: nn.Linear = recaller.projector.linear_1  # type: ignore[assignment]
    two: nn.Linear = recaller.projector.linear_2  # type: ignore[assignment]
    count = len(read)
    for first, sign in ((-2 * count, 1.0), (-count, -1.0)):
        rows = slice(first, first + count or None)
        one.weight[rows], one.bias[rows] = sign * read[:, :-1], sign * read[:, -1]
        two.weight[:, rows] = sign * words.leans * words.length
