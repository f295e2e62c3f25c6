"""Before stage 1: a projector whose image tokens already say the words of the name.

From a fresh projector the frozen LM's loss takes long to teach 2,500 names, because every sample
pays for 30 layers of the LM and speaks of five words. Here the LM's word embeddings alone are
asked: image tokens, seen from the mean word, are to point at the pieces of the name that their
patch shows (`zoo.spelling`), of all pieces that there are. In scenes each object's tokens are to
say that object's name, and the page between them how many there are (`zoo.word_views`). Every token
also says where it is: along left-right and top-bottom, two directions that are taken off before
pieces are read. Stages 1 and 2 start from what comes of it. CLIP and LM stay as they are.

The mean word matters: SmolLM2's word embeddings are a common vector of length 2.2 plus a word's own
of length 2.4. Of image tokens that are a word with noise (cosine .45) the untrained LM names 68% of
61 nouns with the common vector in them and none without.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from neva.model import Checkpoint
from neva.model.load import load_model
from neva.model.save import save_checkpoint
from zoo.clip_data import Sampler
from zoo.clip_model import HEAD, NameHead
from zoo.mosaic_losses import places
from zoo.reading import Reader, openmoji_dev, share_read
from zoo.spelling import Speller, Words, plain
from zoo.word_views import Pictures, features_of, items_of, joined, scenes, singles


@dataclass(frozen=True)
class WordsRecipe:
    """How long and how it learns. A picture's loss is taken over some of its image tokens."""

    views: int = 8
    """Augmented views of each emoji and flag; icons, shapes and easy-VQA's pictures have one."""
    scenes: int = 24_000
    scene_share: float = 0.4
    """How much of what is dealt comes from scenes."""
    other_share: float = 0.3
    """How much of the single drawings is neither emoji nor flag."""
    mixed: float = 0.5
    """Share of the single drawings that are mixed with another (`mixed`)."""
    steps: int = 5000
    batch: int = 256
    tokens: int = 8
    rate: float = 4e-3
    aim_weight: float = 4.0
    """Of 1 - cosine between an image token and the weighted mean of its pieces."""
    size_weight: float = 0.1
    """Holds each image token as far from the mean word as words are."""
    place: float = 0.5
    """How far towards left, right, top and bottom a token at the edge leans, in words' lengths."""
    place_weight: float = 4.0
    seed: int = 21


def settle(projector: nn.Module, features: Tensor, words: Words) -> None:
    """Image tokens as far from the mean word as words are; cosines stay as they were.

    Left to itself the fit ends at four times that length, where the LM's gradient is ten times as
    large and stage 1 learns nothing.
    """
    last: nn.Linear = projector.linear_2  # type: ignore[assignment]
    with torch.no_grad():
        said, _ = words.split(projector(features[:512].float()))
        share = words.length / said.norm(dim=-1).mean()
        last.weight.mul_(share)
        last.bias.sub_(words.mean).mul_(share).add_(words.mean)


def loss_of(tokens: Tensor, rows: Tensor, at: Tensor, scale: Tensor, words: Words,
            speller: Speller, recipe: WordsRecipe) -> Tensor:  # fmt: skip
    """Of image tokens ``(B, T, D)``, left ones first, that lie ``at`` ``(B, T, 2)`` and are to say
    ``rows`` ``(B,)``: the pieces of each half of them among all pieces, aim, size, place."""
    said, where = words.split(tokens)
    units = F.normalize(said, dim=-1)
    weights = speller.weights(rows[:, None].expand(at.shape[:2]), at[..., 0])
    columns = speller.columns[rows].clamp(min=0)
    halves = units.unflatten(1, (2, -1)).mean(2)
    with torch.autocast("cpu", torch.bfloat16):
        cosines = halves @ F.normalize(words.own, dim=-1).T
    chances = F.log_softmax(scale.exp() * cosines.float(), -1)
    asked = columns[:, None].expand(-1, 2, -1)
    named = -(chances.gather(2, asked) * weights.unflatten(1, (2, -1)).mean(2)).sum(-1).mean()
    aim = F.normalize(weights @ words.own[columns], dim=-1)
    missed = 1 - (units * aim).sum(-1).mean()
    size = (said.norm(dim=-1) / words.length).log().pow(2).mean()
    place = (where / words.length + recipe.place * at).pow(2).mean()
    loss: Tensor = named + recipe.aim_weight * missed + recipe.size_weight * size
    return loss + recipe.place_weight * place


def mixed(features: Tensor, asked: Tensor, head: NameHead, named: Tensor,
          share: float) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Some single drawings mixed with others, and asked for what CLIP's head names them.

    Between the artists that were trained lie those that were not: there the projector is to do as
    the head does, which names OpenMoji's drawings better than a fit to the true names alone.
    Features ``(B, 36, Dv)``, asked ``(B, 36)``; ``named`` ``(K,)``: rows of the head's names.
    """
    count = len(features)
    other = torch.randperm(count)
    single = (asked == asked[:, :1]).all(1)
    chosen = single & single[other] & (torch.rand(count) < share)
    mine = torch.where(chosen, torch.empty(count).uniform_(0.5, 1.0), 1.0)[:, None, None]
    features = mine * features + (1 - mine) * features[other]
    with torch.no_grad():
        said = named[head.cosines(features.mean(1)).argmax(1)][:, None]
    return features, torch.where(chosen[:, None], said, asked)


def lesson(pictures: Pictures, head: NameHead, named: Tensor,
           recipe: WordsRecipe) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Features ``(B, T, Dv)`` of patches that show one thing each, left ones first, the texts that
    they are to say ``(B,)`` and which patches they are ``(B, T)``."""
    dealt = torch.multinomial(pictures.chance, recipe.batch, replacement=True)
    features, asked = mixed(pictures.features[dealt].float(), pictures.asked[dealt], head, named,
                            recipe.mixed)  # fmt: skip
    one = torch.multinomial((asked >= 0).float(), 1)
    rows = asked.gather(1, one)
    at = torch.multinomial((asked == rows).float(), recipe.tokens, replacement=True)
    at = at.gather(1, places()[at][..., 0].argsort(1))
    chosen = features.gather(1, at[..., None].expand(-1, -1, features.shape[-1]))
    return chosen, rows[:, 0], at


def fit(projector: nn.Module, pictures: Pictures, head: NameHead, named: Tensor, speller: Speller,
        words: Words, recipe: WordsRecipe,
        look: Callable[[], None] = lambda: None) -> None:  # fmt: skip
    """Teach the projector; pictures are dealt in proportion to their chance."""
    torch.manual_seed(recipe.seed)
    last: nn.Linear = projector.linear_2  # type: ignore[assignment]
    with torch.no_grad():
        last.bias.copy_(words.mean)
    settle(projector, pictures.features, words)
    scale = nn.Parameter(torch.tensor(20.0).log())
    optimiser = torch.optim.AdamW([*projector.parameters(), scale], recipe.rate, weight_decay=1e-4)
    grid, start = places(), time.monotonic()
    for step in range(recipe.steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)
        optimiser.param_groups[0]["lr"] = recipe.rate * min(1.0, (step + 1) / 50) * cosine
        features, rows, at = lesson(pictures, head, named, recipe)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = projector(features)
        loss = loss_of(tokens.float(), rows, grid[at], scale, words, speller, recipe)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 500 == 499 or step == recipe.steps - 1:
            took = time.monotonic() - start
            print(f"words: step {step}, loss {loss.item():.3f}, {took:.0f} s", flush=True)
            look()
    settle(projector, pictures.features, words)


def gather(model: nn.Module, parent: Checkpoint, work: Path, recipe: WordsRecipe) -> Pictures:
    """Single pictures and scenes."""
    sampler = Sampler(work)
    items = items_of(sampler, recipe.views, recipe.seed)
    one = singles(model, parent, sampler, items, recipe.other_share, recipe.seed)
    return joined(one, scenes(model, parent, sampler, recipe.scenes, recipe.seed),
                  recipe.scene_share)  # fmt: skip


def dev_reader(work: Path, model: nn.Module, parent: Checkpoint, projector: nn.Module,
               reader: Reader) -> Callable[[], None]:  # fmt: skip
    """Prints how many of OpenMoji's dev half can be read off the image tokens."""
    pixels, names = openmoji_dev(work)
    features = features_of(model, parent, pixels)

    def look() -> None:
        with torch.no_grad():
            tokens = projector(features.float())
        share = share_read(reader, tokens, names)
        print(f"words: {share:.3f} of OpenMoji's dev half read", flush=True)

    return look


def build(work: Path, composed: Path, out: Path, recipe: WordsRecipe | None = None) -> None:
    """Write the checkpoint ``composed`` with a projector that knows words to ``out``."""
    recipe = recipe or WordsRecipe()
    parent = Checkpoint.open(composed)
    model = load_model(parent, "cpu", torch.bfloat16)
    pictures = gather(model, parent, work, recipe)
    tokenizer = Tokenizer.from_file(str(composed / "tokenizer.json"))
    head = NameHead.read(work / "clip" / "final" / HEAD)
    speller = Speller.of([*pictures.texts, *map(plain, head.names)], tokenizer)
    embedding = model.get_input_embeddings().weight.detach()[: parent.image_token_id].float()
    reader = Reader.of_emoji(work, embedding, tokenizer)
    projector = model.model.multi_modal_projector.float().requires_grad_(True)
    look = dev_reader(work, model, parent, projector, reader)
    fit(projector, pictures.in_rows_of(speller), head, speller.rows([*map(plain, head.names)]),
        speller, Words.of(embedding, speller, tokenizer), recipe, look)  # fmt: skip
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
