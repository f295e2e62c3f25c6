"""How image tokens say a name: at the left mostly its first word piece, at the right the rest.

A bag of words that is the same on every token is not what a language model reads: of training
drawings whose names could be read off such tokens 65 times of 100, the LM said 17 (`zoo.lens`, run
3). It has to know with which piece to begin. One piece per token in turn would be plainest, but a
patch of layer -2 does not know its column (a linear probe finds it half of the time); it knows
smoothly how far left it is, so the weight of the first piece falls smoothly from left to right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

PIECES = 6
TILT = 0.45
"""At the left edge the first piece has .5 + TILT of the weight, at the right edge .5 - TILT."""
SIDES = ((" left", " right"), (" top", " bottom"))
FLAG = "flag: "


def plain(name: str) -> str:
    """A name as it is said; ``flag: Japan`` as ``Japan flag``: it begins with the country."""
    return f"{name.removeprefix(FLAG)} flag" if name.startswith(FLAG) else name.replace(":", "")


@dataclass(frozen=True)
class Speller:
    """Texts as word pieces: ``vocabulary`` holds the ids of all pieces, sorted; of each text the
    columns of its pieces ``(T, 6)``, -1 for none, and how the weight of all but the first is shared
    among them ``(T, 6)``."""

    vocabulary: tuple[int, ...]
    row: dict[str, int]
    columns: Tensor
    rest: Tensor

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer) -> Speller:
        """Of all texts that are to be said; pieces are those inside a sentence, rare ones weigh
        more by the square root."""
        known = sorted(set(texts))
        ids = [
            list(dict.fromkeys(tokenizer.encode(" " + t, add_special_tokens=False).ids))[:PIECES]
            for t in known
        ]
        often = Counter(piece for row in ids for piece in row)
        vocabulary = tuple(sorted(often))
        column = {piece: place for place, piece in enumerate(vocabulary)}
        columns = torch.full((len(known), PIECES), -1)
        rest = torch.zeros(len(known), PIECES)
        for place, row in enumerate(ids):
            columns[place, : len(row)] = torch.tensor([column[piece] for piece in row])
            rare = torch.tensor([often[piece] ** -0.5 for piece in row[1:]])
            rest[place, 1 : len(row)] = rare / rare.sum()
            if len(row) == 1:
                rest[place, 0] = 1.0
        return cls(vocabulary, {text: place for place, text in enumerate(known)}, columns, rest)

    def rows(self, texts: Sequence[str]) -> Tensor:
        """The rows of texts, ``(len(texts),)``."""
        return torch.tensor([self.row[text] for text in texts])

    def weights(self, rows: Tensor, x: Tensor) -> Tensor:
        """Of texts ``rows`` (...) at ``x`` (...), -1 at the left edge to 1: ``(..., 6)``."""
        first = F.one_hot(torch.tensor(0), PIECES).float()
        share = (0.5 - TILT * x)[..., None]
        return share * first + (1 - share) * self.rest[rows]


@dataclass(frozen=True)
class Words:
    """The pieces of names: their mean ``(D,)``, what each is beside it ``(V, D)``, its length, and
    the directions of left and top ``(D, 2)``, orthonormal."""

    mean: Tensor
    own: Tensor
    length: Tensor
    sides: Tensor

    @classmethod
    def of(cls, embedding: Tensor, speller: Speller, tokenizer: Tokenizer) -> Words:
        """Of the LM's word embeddings; pieces of many names weigh more in the mean."""
        rows = embedding[list(speller.vocabulary)]
        said = speller.columns[speller.columns >= 0]
        often = torch.bincount(said, minlength=len(rows)).float().sqrt()[:, None]
        mean = (rows * often).sum(0) / often.sum()
        ends = [[tokenizer.encode(w, add_special_tokens=False).ids[0] for w in p] for p in SIDES]
        apart = torch.stack([embedding[one] - embedding[other] for one, other in ends], 1)
        sides = torch.linalg.qr(apart).Q
        sides = sides * (sides * apart).sum(0).sign()
        return cls(mean, rows - mean, (rows - mean).norm(dim=1).mean(), sides)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image tokens ``(..., D)``: what they say beside the mean word, and where ``(..., 2)``."""
        off = tokens - self.mean
        where = off @ self.sides
        return off - where @ self.sides.T, where

    def cosines(self, said: Tensor) -> Tensor:
        """What tokens say ``(..., D)`` -> its cosines with all pieces ``(..., V)``."""
        return F.normalize(said, dim=-1) @ F.normalize(self.own, dim=-1).T
