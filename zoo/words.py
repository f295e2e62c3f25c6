"""Before stage 1: a projector whose image tokens already lie near the words of the name.

From a fresh projector the frozen LM's loss takes long to teach 2,500 names, because every sample
pays for 30 layers of the LM and speaks of five words. Here the LM's word embeddings alone are
asked: a picture's image tokens, seen from the mean word, are to point, of all words that occur in
names, to those of its own name (a bag of words by softmax over cosines; rare words weigh more).
In scenes each object's tokens are to say that object's name, and the page between them how many
there are (`zoo.word_views`). Every token also says where it is: along left-right and top-bottom,
two directions that are taken off before words are read. A lesson costs a few megaflops instead of
tens of gigaflops, so every drawing is seen tens of times in minutes. Stages 1 and 2 start from it.
CLIP and LM stay as they are.

The mean word matters: SmolLM2's word embeddings are a common vector of length 2.2 plus a word's own
of length 2.4. Of image tokens that are a word with noise (cosine .45) the untrained LM names 68% of
61 nouns with the common vector in them and none without.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from neva.model import Checkpoint
from neva.model.load import load_model
from neva.model.save import save_checkpoint
from zoo.clip_data import Sampler
from zoo.mosaic_losses import places
from zoo.word_views import Bags, Lessons, bags, items_of, joined, scene_lessons, single_lessons

SIDES = ((" left", " right"), (" top", " bottom"))


class Projector(Protocol):
    """A projector as Hugging Face's LLaVA has it: features ``(B, P, Dv)`` to ``(B, P, D)``."""

    linear_2: nn.Linear

    def __call__(self, features: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class WordsRecipe:
    """How long and how it learns. A lesson's loss is taken over some of its image tokens."""

    views: int = 5
    """Augmented views of each emoji and flag; icons, shapes and easy-VQA's pictures have one."""
    scenes: int = 20_000
    scene_share: float = 0.3
    """How much of what is dealt comes from scenes."""
    steps: int = 4000
    batch: int = 256
    tokens: int = 9
    rate: float = 4e-3
    aim_weight: float = 4.0
    """Of 1 - cosine between each image token and the weighted mean of the name's words."""
    size_weight: float = 0.1
    """Holds each image token as far from the mean word as words are."""
    place: float = 0.5
    """How far towards left, right, top and bottom a token at the edge leans, in words' lengths."""
    place_weight: float = 4.0
    plain_share: float = 0.4
    """How often an icon is drawn, as compared with an emoji."""
    seed: int = 21


@dataclass(frozen=True)
class Words:
    """The words of names: their mean ``(D,)``, what each is beside it ``(V, D)``, its length, and
    the directions of left and top ``(D, 2)``, orthonormal."""

    mean: Tensor
    own: Tensor
    length: Tensor
    sides: Tensor

    @classmethod
    def of(cls, embedding: Tensor, bag: Bags, tokenizer: Tokenizer) -> Words:
        """Frequent words weigh more in the mean, by the square root."""
        rows = embedding[bag.vocabulary]
        known = bag.columns[bag.columns >= 0]
        often = torch.bincount(known, minlength=len(rows)).float().sqrt()[:, None]
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


def settle(projector: Projector, features: Tensor, words: Words) -> None:
    """Image tokens as far from the mean word as words are; cosines stay as they were.

    Left to itself the fit ends at four times that length, where the LM's gradient is ten times as
    large and stage 1 learns nothing.
    """
    last = projector.linear_2
    with torch.no_grad():
        said, _ = words.split(projector(features[:512].float()))
        share = words.length / said.norm(dim=-1).mean()
        last.weight.mul_(share)
        last.bias.sub_(words.mean).mul_(share).add_(words.mean)


def loss_of(tokens: Tensor, at: Tensor, scale: Tensor, words: Words, bag: Bags, rows: Tensor,
            recipe: WordsRecipe) -> Tensor:  # fmt: skip
    """Of some lessons' image tokens ``(B, T, D)``, which lie ``at`` ``(B, T, 2)``: the words among
    all words, aim, size and place."""
    said, where = words.split(tokens)
    units = F.normalize(said, dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        cosine = units.mean(1) @ F.normalize(words.own, dim=-1).T
    chances = F.log_softmax(scale.exp() * cosine.float(), -1)
    columns, weights = bag.columns[rows].clamp(min=0), bag.weights[rows]
    named = -(chances.gather(1, columns) * weights).sum(1).mean()
    aim = F.normalize((weights[:, :, None] * words.own[columns]).sum(1), dim=-1)
    missed = 1 - (units * aim[:, None]).sum(-1).mean()
    size = (said.norm(dim=-1) / words.length).log().pow(2).mean()
    place = (where / words.length + recipe.place * at).pow(2).mean()
    loss: Tensor = named + recipe.aim_weight * missed + recipe.size_weight * size
    return loss + recipe.place_weight * place


def fit(projector: Projector, lessons: Lessons, bag: Bags, words: Words,
        recipe: WordsRecipe) -> None:  # fmt: skip
    """Teach the projector; lessons are dealt in proportion to their chance."""
    torch.manual_seed(recipe.seed)
    with torch.no_grad():
        projector.linear_2.bias.copy_(words.mean)
    settle(projector, lessons.features, words)
    scale = nn.Parameter(torch.tensor(20.0).log())
    learning = [*projector.parameters(), scale]
    optimiser = torch.optim.AdamW(learning, recipe.rate, weight_decay=1e-4)
    grid, start = places(), time.monotonic()
    for step in range(recipe.steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * min(1.0, (step + 1) / 50) * cosine
        rows = torch.multinomial(lessons.chance, recipe.batch, replacement=True)
        at = torch.multinomial(lessons.tokens[rows].float(), recipe.tokens, replacement=True)
        seen = lessons.features[lessons.picture[rows][:, None], at].float()
        with torch.autocast("cpu", torch.bfloat16):
            tokens = projector(seen)
        loss = loss_of(tokens.float(), grid[at], scale, words, bag, rows, recipe)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 200 == 0 or step == recipe.steps - 1:
            took = time.monotonic() - start
            print(f"words: step {step}, loss {loss.item():.3f}, {took:.0f} s", flush=True)
    settle(projector, lessons.features, words)


def lessons_of(model: nn.Module, parent: Checkpoint, work: Path, recipe: WordsRecipe) -> Lessons:
    """Single pictures and scenes."""
    sampler = Sampler(work)
    items = items_of(sampler, recipe.views, recipe.seed)
    singles = single_lessons(model, parent, sampler, items, recipe.plain_share, recipe.seed)
    if not recipe.scenes:
        return singles
    scenes = scene_lessons(model, parent, sampler, recipe.scenes, recipe.seed)
    return joined(singles, scenes, recipe.scene_share)


def build(work: Path, composed: Path, out: Path, recipe: WordsRecipe | None = None) -> None:
    """Write the checkpoint ``composed`` with a projector that knows words to ``out``."""
    recipe = recipe or WordsRecipe()
    parent = Checkpoint.open(composed)
    model = load_model(parent, "cpu", torch.bfloat16)
    lessons = lessons_of(model, parent, work, recipe)
    tokenizer = Tokenizer.from_file(str(composed / "tokenizer.json"))
    bag = bags(lessons.words, tokenizer)
    model.float()
    embedding = model.get_input_embeddings().weight.detach()[: parent.image_token_id]
    projector = model.model.multi_modal_projector
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in projector.parameters():
        parameter.requires_grad_(True)
    fit(projector, lessons, bag, Words.of(embedding, bag, tokenizer), recipe)
    save_checkpoint(model, parent, out, replace(parent.provenance, parents=(parent.sha256,)))


def main(argv: list[str] | None = None) -> int:
    """Fit the projector to the words of the names."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--composed", type=Path, help="default WORK/composed")
    parser.add_argument("--out", type=Path, help="default WORK/worded")
    parser.add_argument("--steps", type=int, default=WordsRecipe.steps)
    parser.add_argument("--scenes", type=int, default=WordsRecipe.scenes)
    parser.add_argument("--views", type=int, default=WordsRecipe.views)
    o = parser.parse_args(argv)
    recipe = WordsRecipe(steps=o.steps, scenes=o.scenes, views=o.views)
    build(o.work, o.composed or o.work / "composed", o.out or o.work / "worded", recipe)
    return 0


if __name__ == "__main__":
    sys.exit(main())
