"""What `zoo.words` learns from: image tokens of pictures, and the words that each is to say.

A lesson is some image tokens of one picture with one bag of words: all 36 of a single drawing say
its name; those of an object in a scene say that object's, and those of the page between objects
say how many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from neva.model import Checkpoint
from neva.model.features import image_features
from zoo import vqa
from zoo.augment import compose, load, normalise
from zoo.clip_data import Item, Sampler, usable
from zoo.mosaics import GRID, Director, compose_mosaics
from zoo.scene_questions import NUMBERS

PATCHES = GRID * GRID
BATCH = 128


@dataclass(frozen=True)
class Lessons:
    """Features ``(N, 36, 192)`` bf16; of each of M lessons the picture ``(M,)``, its tokens
    ``(M, 36)`` bool, its words and how often it is dealt ``(M,)``."""

    features: Tensor
    picture: Tensor
    tokens: Tensor
    words: list[str]
    chance: Tensor


@dataclass(frozen=True)
class Bags:
    """Each lesson's words: columns ``(M, W)`` into ``vocabulary``, -1 for none, and weights."""

    vocabulary: list[int]
    columns: Tensor
    weights: Tensor


def words_of(item: Item) -> str:
    """What is to be read off a picture: its name; with the ink where a recoloured icon says it."""
    return item.caption if item.ink is not None else item.concept


def page_words(count: int) -> str:
    """What the page between the objects of a scene says."""
    return f"{NUMBERS[count]} background"


def items_of(sampler: Sampler, views: int, seed: int) -> list[Item]:
    """Every picture that is learned from: emoji and flags ``views`` times, all others once."""
    rng = np.random.default_rng(seed)
    rows = [i for i, d in enumerate(sampler.gallery.drawings) if usable(d)]
    emoji = [i for i in rows if sampler.gallery.drawings[i].kind in ("emoji", "flag")]
    out = [sampler.art(i, rng) for i in rows + emoji * (views - 1)]
    out += [sampler.shape(rng) for _ in sampler.shapes]
    return out + [sampler.picture(rng) for _ in sampler.vqa]


@torch.no_grad()
def single_lessons(
    model: nn.Module, checkpoint: Checkpoint, sampler: Sampler, items: list[Item], plain: float,
    seed: int,
) -> Lessons:  # fmt: skip
    """One lesson a picture; what is neither emoji nor flag is dealt ``plain`` times as often."""
    pixels = vqa.pixels(sampler.vqa)
    rng = np.random.default_rng(seed)
    out = []
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        views = compose(part, load(part, sampler, pixels), rng)
        out.append(image_features(model, normalise(views.images), checkpoint.pixels))
        if start % (100 * BATCH) == 0:
            print(f"features: {start:,} of {len(items):,}", flush=True)
    drawings = sampler.gallery.drawings
    often = [i.store == "art" and drawings[i.row].kind in ("emoji", "flag") for i in items]
    return Lessons(
        torch.cat(out).to(torch.bfloat16),
        torch.arange(len(items)),
        torch.ones(len(items), PATCHES, dtype=torch.bool),
        [words_of(item) for item in items],
        torch.where(torch.tensor(often), 1.0, plain),
    )


@torch.no_grad()
def scene_lessons(
    model: nn.Module, checkpoint: Checkpoint, sampler: Sampler, scenes: int, seed: int
) -> Lessons:
    """One lesson an object that has a patch, and one for the page of each scene."""
    director, rng = Director(sampler), np.random.default_rng([seed, 1])
    features, pictures, tokens, words = [], [], [], []
    for start in range(0, scenes, BATCH):
        part = compose_mosaics(director, min(BATCH, scenes - start), rng)
        features.append(image_features(model, normalise(part.pixels), checkpoint.pixels))
        for scene, owner in enumerate(part.owner):
            for one in owner.unique().tolist():
                pictures.append(start + scene)
                tokens.append(owner == one)
                said = words_of(part.items[one]) if one >= 0 else ""
                words.append(said or page_words(int(part.counts[scene])))
    return Lessons(
        torch.cat(features).to(torch.bfloat16),
        torch.tensor(pictures),
        torch.stack(tokens),
        words,
        torch.ones(len(words)),
    )


def joined(one: Lessons, other: Lessons, share: float) -> Lessons:
    """Both; ``share`` of what is dealt is the other's."""
    scale = share / (1 - share) * one.chance.sum() / other.chance.sum()
    return Lessons(
        torch.cat([one.features, other.features]),
        torch.cat([one.picture, other.picture + len(one.features)]),
        torch.cat([one.tokens, other.tokens]),
        one.words + other.words,
        torch.cat([one.chance, other.chance * scale]),
    )


def bags(texts: Sequence[str], tokenizer: Tokenizer) -> Bags:
    """Token ids of the words, as they stand inside a sentence, weighted by 1/sqrt(frequency)."""
    ids = {
        t: list(dict.fromkeys(tokenizer.encode(" " + t, add_special_tokens=False).ids))
        for t in set(texts)
    }
    often = Counter(i for bag in ids.values() for i in bag)
    vocabulary = sorted(often)
    column = {token: place for place, token in enumerate(vocabulary)}
    longest = max(map(len, ids.values()))
    columns = torch.full((len(texts), longest), -1)
    weights = torch.zeros(len(texts), longest)
    for row, text in enumerate(texts):
        bag = ids[text]
        columns[row, : len(bag)] = torch.tensor([column[i] for i in bag])
        share = torch.tensor([often[i] ** -0.5 for i in bag])
        weights[row, : len(bag)] = share / share.sum()
    return Bags(vocabulary, columns, weights)
