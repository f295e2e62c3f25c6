"""Before stage 1: a projector whose image tokens already lie near the words of the name.

From a fresh projector the frozen LM's loss takes long to teach 2,500 names, because every sample
pays for 30 layers of the LM and speaks of five words. Here the LM's word embeddings alone are
asked: a picture's image tokens, seen from the mean word, are to point, of all words that occur in
names, to those of its own name (a bag of words by softmax over cosines; rare words weigh more).
That costs a few megaflops a picture instead of tens of gigaflops, so every drawing is seen tens of
times in minutes. Stages 1 and 2 start from it. CLIP and LM stay as they are.

The mean word matters: SmolLM2's word embeddings are a common vector of length 2.2 plus a word's own
of length 2.4. Of image tokens that are a word with noise (cosine .45) the untrained LM names 68% of
61 nouns with the common vector in them and none without.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from neva.model import Checkpoint
from neva.model.features import image_features
from neva.model.load import load_model
from neva.model.save import save_checkpoint
from zoo import vqa
from zoo.augment import compose, load, normalise
from zoo.clip_data import Item, Sampler, usable


class Projector(Protocol):
    """A projector as Hugging Face's LLaVA has it: features ``(B, P, Dv)`` to ``(B, P, D)``."""

    linear_2: nn.Linear

    def __call__(self, features: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class WordsRecipe:
    """How long and how it learns. A picture's loss is taken over some of its 36 image tokens."""

    views: int = 5
    """Augmented views of each emoji and flag; icons, shapes and easy-VQA's pictures have one."""
    steps: int = 4000
    batch: int = 256
    tokens: int = 9
    rate: float = 4e-3
    aim_weight: float = 4.0
    """Of 1 - cosine between each image token and the weighted mean of the name's words."""
    size_weight: float = 0.1
    """Holds each image token as far from the mean word as words are."""
    plain_share: float = 0.4
    """How often an icon is drawn, as compared with an emoji."""
    seed: int = 21


@dataclass(frozen=True)
class Bags:
    """Each picture's words: columns ``(N, W)`` into ``vocabulary``, -1 for none, and weights."""

    vocabulary: list[int]
    columns: Tensor
    weights: Tensor


def items_of(sampler: Sampler, recipe: WordsRecipe) -> list[Item]:
    """Every picture that is learned from, once or `views` times."""
    rng = np.random.default_rng(recipe.seed)
    rows = [i for i, d in enumerate(sampler.gallery.drawings) if usable(d)]
    emoji = [i for i in rows if sampler.gallery.drawings[i].kind in ("emoji", "flag")]
    out = [sampler.art(i, rng) for i in rows + emoji * (recipe.views - 1)]
    out += [sampler.shape(rng) for _ in sampler.shapes]
    return out + [sampler.picture(rng) for _ in sampler.vqa]


def words_of(item: Item) -> str:
    """What is to be read off a picture: its name; with the ink where a recoloured icon says it."""
    return item.caption if item.ink is not None else item.concept


def bags(items: list[Item], tokenizer: Tokenizer) -> Bags:
    """Token ids of the words, as they stand inside a sentence, weighted by 1/sqrt(frequency)."""
    texts = [words_of(item) for item in items]
    ids = {
        t: list(dict.fromkeys(tokenizer.encode(" " + t, add_special_tokens=False).ids))
        for t in set(texts)
    }
    often = Counter(i for bag in ids.values() for i in bag)
    vocabulary = sorted(often)
    column = {token: place for place, token in enumerate(vocabulary)}
    longest = max(map(len, ids.values()))
    columns = torch.full((len(items), longest), -1)
    weights = torch.zeros(len(items), longest)
    for row, text in enumerate(texts):
        bag = ids[text]
        columns[row, : len(bag)] = torch.tensor([column[i] for i in bag])
        share = torch.tensor([often[i] ** -0.5 for i in bag])
        weights[row, : len(bag)] = share / share.sum()
    return Bags(vocabulary, columns, weights)


@torch.no_grad()
def features_of(model: nn.Module, checkpoint: Checkpoint, sampler: Sampler, items: list[Item],
                seed: int) -> Tensor:  # fmt: skip
    """What CLIP makes of every item: ``(N, 36, 192)`` bf16."""
    pixels = vqa.pixels(sampler.vqa)
    rng = np.random.default_rng(seed)
    out = []
    for start in range(0, len(items), 128):
        part = items[start : start + 128]
        views = compose(part, load(part, sampler, pixels), rng)
        out.append(image_features(model, normalise(views.images), checkpoint.pixels))
        if start % 12800 == 0:
            print(f"features: {start:,} of {len(items):,}", flush=True)
    return torch.cat(out).to(torch.bfloat16)


@dataclass(frozen=True)
class Words:
    """The words of names: their mean ``(D,)``, what each is beside it ``(V, D)``, its length."""

    mean: Tensor
    own: Tensor
    length: Tensor

    @classmethod
    def of(cls, embedding: Tensor, bag: Bags) -> Words:
        """Frequent words weigh more in the mean, by the square root."""
        rows = embedding[bag.vocabulary]
        known = bag.columns[bag.columns >= 0]
        often = torch.bincount(known, minlength=len(rows)).float().sqrt()[:, None]
        mean = (rows * often).sum(0) / often.sum()
        return cls(mean, rows - mean, (rows - mean).norm(dim=1).mean())


def settle(projector: Projector, features: Tensor, words: Words) -> None:
    """Image tokens as far from the mean word as words are; cosines stay as they were.

    Left to itself the fit ends at four times that length, where the LM's gradient is ten times as
    large and stage 1 learns nothing.
    """
    last = projector.linear_2
    with torch.no_grad():
        off = (projector(features[:512].float()) - words.mean).norm(dim=-1).mean()
        share = words.length / off
        last.weight.mul_(share)
        last.bias.sub_(words.mean).mul_(share).add_(words.mean)


def loss_of(tokens: Tensor, scale: Tensor, words: Words, bag: Bags, rows: Tensor,
            recipe: WordsRecipe) -> Tensor:  # fmt: skip
    """Of some rows' image tokens ``(B, P, D)``: the name's words among all, aim and size."""
    off = tokens - words.mean
    units = F.normalize(off, dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        cosine = units.mean(1) @ F.normalize(words.own, dim=-1).T
    chances = F.log_softmax(scale.exp() * cosine.float(), -1)
    columns, weights = bag.columns[rows].clamp(min=0), bag.weights[rows]
    named = -(chances.gather(1, columns) * weights).sum(1).mean()
    aim = F.normalize((weights[:, :, None] * words.own[columns]).sum(1), dim=-1)
    missed = 1 - (units * aim[:, None]).sum(-1).mean()
    size = (off.norm(dim=-1) / words.length).log().pow(2).mean()
    loss: Tensor = named + recipe.aim_weight * missed + recipe.size_weight * size
    return loss


def fit(projector: Projector, features: Tensor, chance: Tensor, bag: Bags, embedding: Tensor,
        recipe: WordsRecipe) -> None:  # fmt: skip
    """Teach the projector; rows are drawn in proportion to ``chance`` ``(N,)``."""
    torch.manual_seed(recipe.seed)
    words = Words.of(embedding, bag)
    with torch.no_grad():
        projector.linear_2.bias.copy_(words.mean)
    settle(projector, features, words)
    scale = nn.Parameter(torch.tensor(20.0).log())
    learning = [*projector.parameters(), scale]
    optimiser = torch.optim.AdamW(learning, recipe.rate, weight_decay=1e-4)
    start = time.monotonic()
    for step in range(recipe.steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * min(1.0, (step + 1) / 50) * cosine
        rows = torch.multinomial(chance, recipe.batch, replacement=True)
        seen = features[rows][:, torch.randperm(features.shape[1])[: recipe.tokens]].float()
        with torch.autocast("cpu", torch.bfloat16):
            tokens = projector(seen)
        loss = loss_of(tokens.float(), scale, words, bag, rows, recipe)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 200 == 0 or step == recipe.steps - 1:
            took = time.monotonic() - start
            print(f"words: step {step}, loss {loss.item():.3f}, {took:.0f} s", flush=True)
    settle(projector, features, words)


def build(work: Path, composed: Path, out: Path, recipe: WordsRecipe | None = None) -> None:
    """Write the checkpoint ``composed`` with a projector that knows words to ``out``."""
    recipe = recipe or WordsRecipe()
    parent = Checkpoint.open(composed)
    model = load_model(parent, "cpu", torch.bfloat16)
    sampler = Sampler(work)
    items = items_of(sampler, recipe)
    bag = bags(items, Tokenizer.from_file(str(composed / "tokenizer.json")))
    features = features_of(model, parent, sampler, items, recipe.seed)
    drawings = sampler.gallery.drawings
    often = [i.store == "art" and drawings[i.row].kind in ("emoji", "flag") for i in items]
    chance = torch.where(torch.tensor(often), 1.0, recipe.plain_share)
    model.float()
    embedding = model.get_input_embeddings().weight.detach()[: parent.image_token_id]
    projector = model.model.multi_modal_projector
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in projector.parameters():
        parameter.requires_grad_(True)
    fit(projector, features, chance, bag, embedding, recipe)
    save_checkpoint(model, parent, out, replace(parent.provenance, parents=(parent.sha256,)))


def main(argv: list[str] | None = None) -> int:
    """Fit the projector to the words of the names."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--composed", type=Path, help="default WORK/composed")
    parser.add_argument("--out", type=Path, help="default WORK/worded")
    parser.add_argument("--steps", type=int, default=WordsRecipe.steps)
    o = parser.parse_args(argv)
    recipe = WordsRecipe(steps=o.steps)
    build(o.work, o.composed or o.work / "composed", o.out or o.work / "worded", recipe)
    return 0


if __name__ == "__main__":
    sys.exit(main())
