"""Names read off image tokens without an LM: the known name that they are nearest to saying."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from neva.evaluate.normalise import bare
from zoo.clip_data import usable
from zoo.drawings import Gallery, openmoji_half
from zoo.spelling import Speller, Words, plain
from zoo.teacher import on_white


class Reader:
    """Reads single drawings."""

    def __init__(self, names: list[str], embedding: Tensor, tokenizer: Tokenizer) -> None:
        self.names = names
        texts = [plain(name) for name in names]
        speller = Speller.of(texts, tokenizer)
        self.words = Words.of(embedding, speller, tokenizer)
        rows = speller.rows(texts)
        self.aims = self.words.aims(speller, rows)
        """What image tokens say of each name, ``(names, D)``."""

    @classmethod
    def of_emoji(cls, work: Path, embedding: Tensor, tokenizer: Tokenizer) -> Reader:
        """Knows the names of all emoji and flags that were trained on."""
        drawings = Gallery.open(work / "drawings").drawings
        kinds = ("emoji", "flag")
        names = sorted({d.concept for d in drawings if usable(d) and d.kind in kinds})
        return cls(names, embedding, tokenizer)

    def read(self, tokens: Tensor) -> list[str]:
        """Image tokens ``(N, 64, D)`` -> the nearest name of each picture."""
        said, _ = self.words.split(tokens)
        page = F.normalize(said, dim=-1).mean(1)
        return [self.names[row] for row in (page @ self.aims.T).argmax(1).tolist()]


def openmoji_dev(work: Path) -> tuple[Tensor, list[str]]:
    """OpenMoji's dev half, cropped, on white ``(N, 3, 128, 128)`` in 0..1, and its names."""
    gallery = Gallery.open(work / "openmoji")
    dev = [i for i, d in enumerate(gallery.drawings) if openmoji_half(d.codepoint) == "dev"]
    return on_white(gallery.pixels[dev]), [gallery.drawings[i].concept for i in dev]


def nearness(reader: Reader, tokens: Tensor, names: list[str]) -> float:
    """Mean cosine of image tokens ``(N, 64, D)`` with what they would say of the true names."""
    row = {name: place for place, name in enumerate(reader.names)}
    known = torch.tensor([place for place, name in enumerate(names) if name in row])
    rows = torch.tensor([row[name] for name in names if name in row])
    said, _ = reader.words.split(tokens[known])
    return F.cosine_similarity(said, reader.aims[rows][:, None], dim=-1).mean().item()


def share_read(reader: Reader, tokens: Tensor, names: list[str]) -> float:
    """How many of the pictures, by their image tokens ``(N, 64, D)``, are read as named."""
    said = reader.read(tokens)
    return sum(bare(a) == bare(b) for a, b in zip(said, names, strict=True)) / len(names)
