"""How image tokens say a name: all its word pieces at once, the first one strongest.

Weights fall by `FALL` from piece to piece, so that the LM knows with which to begin. Each patch of
an object says the same. Other ways were measured: of tokens that say a trained name and nothing
else, an adapter that had learnt first pieces on the left and the rest on the right read 54 %, and
of these, which it had never seen, 51 %; a fall of .4 gave 35 %. A patch does not know its column
well enough for one piece per token (a linear probe of layer -2 finds it half of the time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from zoo.glyphs import LETTER

PIECES = 6
FALL = 0.6
SIDES = ((" left", " right"), (" top", " bottom"))
COPIES = (" once", " twice", " thrice", " several", " dozens")
"""Words towards which the tokens of a thing lean that a picture shows once to five times: none that
a name has, so that a lean does not look like a name."""
FLAG = "flag: "


def plain(name: str) -> str:
    """A name as it is said; what tells it from its like comes first: ``flag: Japan`` is ``Japan
    flag``, ``letter a`` is ``A letter``."""
    letter, _, mark = name.removeprefix(LETTER).partition(" ")
    if name.startswith(LETTER) and len(letter) == 1:
        return " ".join((letter.upper(), *mark.split(), LETTER.strip()))
    return f"{name.removeprefix(FLAG)} flag" if name.startswith(FLAG) else name.replace(":", "")


@dataclass(frozen=True)
class Speller:
    """Texts as word pieces: ``vocabulary`` holds the ids of all pieces, sorted; of each text the
    columns of its pieces ``(T, 6)``, -1 for none, and their weights ``(T, 6)``, which sum to 1."""

    vocabulary: tuple[int, ...]
    row: dict[str, int]
    columns: Tensor
    weights: Tensor

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer) -> Speller:
        """Of all texts that are to be said; pieces are those inside a sentence."""
        known = sorted(set(texts))
        ids = [
            list(dict.fromkeys(tokenizer.encode(" " + t, add_special_tokens=False).ids))[:PIECES]
            for t in known
        ]
        vocabulary = tuple(sorted({piece for row in ids for piece in row}))
        column = {piece: place for place, piece in enumerate(vocabulary)}
        columns = torch.full((len(known), PIECES), -1)
        for place, row in enumerate(ids):
            columns[place, : len(row)] = torch.tensor([column[piece] for piece in row])
        weights = (columns >= 0) * FALL ** torch.arange(float(PIECES))
        weights = weights / weights.sum(1, keepdim=True)
        return cls(vocabulary, {text: place for place, text in enumerate(known)}, columns, weights)

    def rows(self, texts: Sequence[str]) -> Tensor:
        """The rows of texts, ``(len(texts),)``."""
        return torch.tensor([self.row[text] for text in texts], dtype=torch.long)


@dataclass(frozen=True)
class Words:
    """The pieces of names: their mean ``(D,)``, what each is beside it ``(V, D)``, its length, and
    what no name says: the directions of left and top and of `COPIES` ``(D, 7)``, orthonormal."""

    mean: Tensor
    own: Tensor
    length: Tensor
    leans: Tensor

    @classmethod
    def of(cls, embedding: Tensor, speller: Speller, tokenizer: Tokenizer) -> Words:
        """Of the LM's word embeddings; pieces of many names weigh more in the mean."""
        rows = embedding[list(speller.vocabulary)]
        said = speller.columns[speller.columns >= 0]
        often = torch.bincount(said, minlength=len(rows)).float().sqrt()[:, None]
        mean = (rows * often).sum(0) / often.sum()
        ends = [[tokenizer.encode(w, add_special_tokens=False).ids[0] for w in p] for p in SIDES]
        apart = [embedding[one] - embedding[other] for one, other in ends]
        often_said = [tokenizer.encode(w, add_special_tokens=False).ids[0] for w in COPIES]
        raw = torch.stack([*apart, *(embedding[one] - mean for one in often_said)], 1)
        leans = torch.linalg.qr(raw).Q
        leans = leans * (leans * raw).sum(0).sign()
        return cls(mean, rows - mean, (rows - mean).norm(dim=1).mean(), leans)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image tokens ``(..., D)``: what they say beside the mean word, and how they lean
        ``(..., 7)``: two numbers for where they are, five for how often what they say is there."""
        off = tokens - self.mean
        lean = off @ self.leans
        return off - lean @ self.leans.T, lean

    def aims(self, speller: Speller, rows: Tensor) -> Tensor:
        """The direction that says each text: unit vectors ``(len(rows), D)``."""
        own = self.own[speller.columns[rows].clamp(min=0)]
        said = (speller.weights[rows][..., None] * own).sum(-2)
        return F.normalize(said - said @ self.leans @ self.leans.T, dim=-1)
