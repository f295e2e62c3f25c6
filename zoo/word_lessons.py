"""What `zoo.words` is dealt: some patches of a picture that show one thing, and what they say."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.clip_model import NameHead
from zoo.mosaic_losses import places
from zoo.word_views import Pictures


def mixed(states: Tensor, asked: Tensor, head: NameHead, named: Tensor, pure: Tensor,
          share: float) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Some single drawings mixed with others, and asked for what CLIP's head names them.

    Between the artists that were trained lie those that were not: there the projector is to do as
    the head does, which names OpenMoji's drawings better than a fit to the true names alone.
    States ``(B, 65, Dv)``, asked ``(B, 64)``; ``named`` ``(K,)``: rows of the head's names,
    ``pure``: rows that the head knows by several names (five, digit five) and that stay.
    """
    count = len(states)
    other = torch.randperm(count)
    single = (asked == asked[:, :1]).all(1) & ~torch.isin(asked[:, 0], pure)
    chosen = single & single[other] & (torch.rand(count) < share)
    mine = torch.where(chosen, torch.empty(count).uniform_(0.5, 1.0), 1.0)[:, None, None]
    states = mine * states + (1 - mine) * states[other]
    with torch.no_grad():
        said = named[head.cosines(states[:, 1:].mean(1)).argmax(1)][:, None]
    return states, torch.where(chosen[:, None], said, asked)


@dataclass(frozen=True)
class Lessons:
    """Pictures whose ``asked`` are rows of a speller, CLIP's head and its names' rows ``(K,)``,
    and the rows of what is never mixed."""

    pictures: Pictures
    head: NameHead
    named: Tensor
    pure: Tensor

    def deal(self, batch: int, count: int, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """States ``(B, 65, Dv)``, ``count`` patches ``(B, T)`` of each that show one thing, left
        ones first, the text that they are to say ``(B,)``, and how often the picture shows it
        ``(B,)`` or 0; ``share`` of the single drawings are mixed with another."""
        dealt = torch.multinomial(self.pictures.chance, batch, replacement=True)
        states, asked = self.pictures.states[dealt].float(), self.pictures.asked[dealt]
        states, asked = mixed(states, asked, self.head, self.named, self.pure, share)
        chosen = torch.multinomial((asked >= 0).float(), 1)
        rows, copies = asked.gather(1, chosen), self.pictures.copies[dealt].gather(1, chosen)
        at = torch.multinomial((asked == rows).float(), count, replacement=True)
        at = at.gather(1, places()[at][..., 0].argsort(1))
        return states, at, rows[:, 0], copies[:, 0]
