"""Before stage 1: a projector whose image tokens already say the words of the name.

From a fresh projector the frozen LM's loss takes long to teach 2,500 names, because every sample
pays for 30 layers of the LM and speaks of five words. Here the LM's word embeddings alone are
asked: image tokens, seen from the mean word, are to point at the pieces of the name that their
patch shows (`zoo.spelling`), of all pieces that there are. In scenes each object's tokens are to
say that object's name, and the page between them how many there are (`zoo.word_views`). Every token
also says where it is: along left-right and top-bottom, two directions that are taken off before
pieces are read. Then a new layer of CLIP learns with the projector (`zoo.recall`). Stages 1 and 2
start from what comes of it, and from here on CLIP is frozen.

The mean word matters: SmolLM2's word embeddings are a common vector of length 2.2 plus a word's own
of length 2.4. Of image tokens that are a word with noise (cosine .45) the untrained LM names 68% of
61 nouns with the common vector in them and none without.
"""

from __future__ import annotations

import argparse
import copy
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPModel

from neva.model import Checkpoint
from neva.model.load import load_model
from neva.model.save import save_checkpoint
from zoo.clip_data import Sampler
from zoo.clip_model import HEAD, NameHead
from zoo.mosaic_losses import places
from zoo.reading import Reader, openmoji_dev, share_read
from zoo.recall import Recaller, keep_embedding, remember
from zoo.spelling import Speller, Words, plain
from zoo.word_lessons import Lessons
from zoo.word_views import (
    Pictures,
    features_of,
    items_of,
    joined,
    scenes,
    singles,
    states_of,
)


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
    recall_steps: int = 3600
    """With the new layer."""
    batch: int = 256
    tokens: int = 8
    rate: float = 4e-3
    recall_rate: float = 2e-3
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
    halves = units.reshape(len(units), 2, -1, units.shape[-1]).mean(2)
    shares = weights.reshape(len(weights), 2, -1, weights.shape[-1]).mean(2)
    with torch.autocast("cpu", torch.bfloat16):
        cosines = halves @ F.normalize(words.own, dim=-1).T
    chances = F.log_softmax(scale.exp() * cosines.float(), -1)
    asked = columns[:, None].expand(-1, 2, -1)
    named = -(chances.gather(2, asked) * shares).sum(-1).mean()
    aim = F.normalize(weights @ words.own[columns], dim=-1)
    missed = 1 - (units * aim).sum(-1).mean()
    size = (said.norm(dim=-1) / words.length).log().pow(2).mean()
    place = (where / words.length + recipe.place * at).pow(2).mean()
    loss: Tensor = named + recipe.aim_weight * missed + recipe.size_weight * size
    return loss + recipe.place_weight * place


def begin(projector: nn.Module, features: Tensor, words: Words) -> None:
    """A fresh projector says the mean word, and something as large as a word beside it."""
    last: nn.Linear = projector.linear_2  # type: ignore[assignment]
    with torch.no_grad():
        last.bias.copy_(words.mean)
    settle(projector, features, words)


def fit(projector: nn.Module, lessons: Lessons, speller: Speller, words: Words, recipe: WordsRecipe,
        look: Callable[[nn.Module], None] = lambda projector: None) -> None:  # fmt: skip
    """Teach the projector, and what learns with it; pictures are dealt by their chance."""
    torch.manual_seed(recipe.seed)
    scale = nn.Parameter(torch.tensor(20.0).log())
    optimiser = torch.optim.AdamW([*projector.parameters(), scale], recipe.rate, weight_decay=1e-4)
    grid, start = places(), time.monotonic()
    for step in range(recipe.steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)
        optimiser.param_groups[0]["lr"] = recipe.rate * min(1.0, (step + 1) / 50) * cosine
        features, rows, at = lessons.deal(recipe.batch, recipe.tokens, recipe.mixed)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = projector(features)
        loss = loss_of(tokens.float(), rows, grid[at], scale, words, speller, recipe)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 500 == 499 or step == recipe.steps - 1:
            took = time.monotonic() - start
            print(f"words: step {step}, loss {loss.item():.3f}, {took:.0f} s", flush=True)
            look(projector)
    settle(projector, lessons.pictures.features, words)


def gather(model: nn.Module, parent: Checkpoint, work: Path, recipe: WordsRecipe) -> Pictures:
    """Single pictures and scenes."""
    sampler = Sampler(work)
    items = items_of(sampler, recipe.views, recipe.seed)
    one = singles(model, parent, sampler, items, recipe.other_share, recipe.seed)
    return joined(one, scenes(model, parent, sampler, recipe.scenes, recipe.seed),
                  recipe.scene_share)  # fmt: skip


def dev_reader(work: Path, model: nn.Module, parent: Checkpoint,
               reader: Reader) -> Callable[[nn.Module], None]:  # fmt: skip
    """Prints how many of OpenMoji's dev half can be read off the image tokens of a projector."""
    pixels, names = openmoji_dev(work)
    features = features_of(model, parent, pixels)

    def look(projector: nn.Module) -> None:
        with torch.no_grad():
            tokens = projector(features.float())
        share = share_read(reader, tokens, names)
        print(f"words: {share:.3f} of OpenMoji's dev half read", flush=True)

    return look


def build(work: Path, composed: Path, out: Path, recipe: WordsRecipe | None = None) -> None:
    """Write ``composed``, which is of WORK/clip/deep, with a new layer and a projector that know
    words to ``out``, and its CLIP to WORK/clip/worded."""
    recipe = recipe or WordsRecipe()
    parent = Checkpoint.open(composed)
    model = load_model(parent, "cpu", torch.bfloat16)
    tower = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    pictures = gather(model, parent, work, recipe)
    tokenizer = Tokenizer.from_file(str(composed / "tokenizer.json"))
    head = NameHead.read(work / "clip" / "final" / HEAD)
    speller = Speller.of([*pictures.texts, *map(plain, head.names)], tokenizer)
    embedding = model.get_input_embeddings().weight.detach()[: parent.image_token_id].float()
    words = Words.of(embedding, speller, tokenizer)
    reader = Reader.of_emoji(work, embedding, tokenizer)
    lessons = Lessons(pictures.in_rows_of(speller), head, speller.rows([*map(plain, head.names)]))
    look = dev_reader(work, model, parent, reader)
    projector = model.model.multi_modal_projector.float().requires_grad_(True)
    begin(projector, pictures.features, words)
    fit(projector, lessons, speller, words, recipe, look)
    recaller = Recaller(tower.encoder.layers[-2], projector).float().requires_grad_(True)
    known = {name: row for row, name in enumerate(head.names)}
    remember(recaller, head, [known[n] for n in reader.names if n in known], pictures.features)
    later = replace(recipe, steps=recipe.recall_steps, rate=recipe.recall_rate)
    fit(recaller, lessons, speller, words, later, look)
    keep_clip(tower, work, Sampler(work))
    save_checkpoint(model, parent, out, replace(parent.provenance, parents=(parent.sha256,)))


def keep_clip(tower: nn.Module, work: Path, sampler: Sampler) -> None:
    """Write the CLIP with the tower's new layer; its last layer, and the tower's, learn to give
    the embeddings that it gave before."""
    source, out = work / "clip" / "deep", work / "clip" / "worded"
    old = CLIPModel.from_pretrained(source, dtype=torch.float32)
    new = copy.deepcopy(old)
    learnt = tower.encoder.layers[-2].state_dict()  # type: ignore[union-attr,index]
    new.vision_model.encoder.layers[-2].load_state_dict(learnt)
    cosine = keep_embedding(old, new, states_of(old, sampler))
    print(f"words: CLIP's embeddings kept, cosine {cosine:.4f}", flush=True)
    last = new.vision_model.encoder.layers[-1].state_dict()
    tower.encoder.layers[-1].load_state_dict(last)  # type: ignore[union-attr,index]
    shutil.copytree(source, out, dirs_exist_ok=True)
    new.to(torch.bfloat16).save_pretrained(out)


def main(argv: list[str] | None = None) -> int:
    """Fit the projector, and CLIP's new layer, to the words of the names."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--composed", type=Path, help="default WORK/composed")
    parser.add_argument("--out", type=Path, help="default WORK/worded")
    parser.add_argument("--steps", type=int, default=WordsRecipe.steps)
    parser.add_argument("--recall-steps", type=int, default=WordsRecipe.recall_steps)
    parser.add_argument("--scenes", type=int, default=WordsRecipe.scenes)
    parser.add_argument("--views", type=int, default=WordsRecipe.views)
    o = parser.parse_args(argv)
    recipe = WordsRecipe(steps=o.steps, recall_steps=o.recall_steps, scenes=o.scenes, views=o.views)
    build(o.work, o.composed or o.work / "composed", o.out or o.work / "worded", recipe)
    return 0


if __name__ == "__main__":
    sys.exit(main())
