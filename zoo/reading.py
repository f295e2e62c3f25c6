"""Names read off image tokens without an LM: the known name that they likeliest say."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from neva.evaluate.normalise import bare
from zoo.clip_data import usable
from zoo.drawings import Gallery, openmoji_half
from zoo.mosaic_losses import places
from zoo.spelling import Speller, Words, plain
from zoo.teacher import on_white

SHARPNESS = 50.0


class Reader:
    """Reads single drawings."""

    def __init__(self, names: list[str], embedding: Tensor, tokenizer: Tokenizer) -> None:
        self.names = names
        texts = [plain(name) for name in names]
        speller = Speller.of(texts, tokenizer)
        self.words = Words.of(embedding, speller, tokenizer)
        rows = speller.rows(texts)
        self.columns = speller.columns[rows].clamp(min=0)
        halves = [speller.weights(rows, torch.full((len(rows),), x)) for x in (-0.6, 0.6)]
        self.weights = torch.stack(halves, 1)
        """Of each piece on the left and the right half, ``(names, 2, 6)``."""
        log = self.weights.clamp(min=1e-9).log()
        self.certain = -(self.weights * log).sum((1, 2))

    @classmethod
    def of_emoji(cls, work: Path, embedding: Tensor, tokenizer: Tokenizer) -> Reader:
        """Knows the names of all emoji and flags that were trained on."""
        drawings = Gallery.open(work / "drawings").drawings
        kinds = ("emoji", "flag")
        names = sorted({d.concept for d in drawings if usable(d) and d.kind in kinds})
        return cls(names, embedding, tokenizer)

    def read(self, tokens: Tensor) -> list[str]:
        """Image tokens ``(N, 36, D)`` -> the likeliest name of each picture."""
        said, _ = self.words.split(tokens)
        left = places()[:, 0] < 0
        units = F.normalize(said, dim=-1)
        halves = torch.stack([units[:, left].mean(1), units[:, ~left].mean(1)], 1)
        chances = F.log_softmax(SHARPNESS * self.words.cosines(halves), -1)
        best = []
        for part in torch.split(chances, 32):
            fits = part[:, :, self.columns] * self.weights.transpose(0, 1)
            best += (fits.sum((1, 3)) + self.certain).argmax(1).tolist()
        return [self.names[int(row)] for row in best]


def openmoji_dev(work: Path) -> tuple[Tensor, list[str]]:
    """OpenMoji's dev half, cropped, on white ``(N, 3, 96, 96)`` in 0..1, and its names."""
    gallery = Gallery.open(work / "openmoji")
    dev = [i for i, d in enumerate(gallery.drawings) if openmoji_half(d.codepoint) == "dev"]
    return on_white(gallery.pixels[dev]), [gallery.drawings[i].concept for i in dev]


def share_read(reader: Reader, tokens: Tensor, names: list[str]) -> float:
    """How many of the pictures, by their image tokens ``(N, 36, D)``, are read as named."""
    said = reader.read(tokens)
    return sum(bare(a) == bare(b) for a, b in zip(said, names, strict=True)) / len(names)
