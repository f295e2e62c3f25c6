"""Before stage 1: CLIP's new layers and a projector whose image tokens already say the name.

From a fresh projector the frozen LM's loss takes long to teach 2,500 names, because every sample
pays for 30 layers of the LM and speaks of five words. Here the LM's word embeddings alone are
asked: image tokens, seen from the mean word, are to point at the pieces of the name that their
patch shows (`zoo.spelling`), of all pieces that there are. In scenes each object's tokens are to
say that object's name, and the page between them how many there are (`zoo.word_views`). Every token
also says where it is, along left-right and top-bottom, and how many of what it shows are there, in
directions that are taken off before pieces are read. Two new layers of CLIP learn with the
projector (`zoo.recall`). Stages 1 and 2 start from what comes of it, and from here on CLIP is
frozen.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from zoo.colours import SHAPES
from zoo.deepen import MORE, WIDE
from zoo.glyphs import ALSO_CALLED, GLYPHS, Typefaces
from zoo.leaning import lean_on, sampled, targets
from zoo.mosaic_losses import places
from zoo.reading import Reader, nearness, openmoji_dev, share_read
from zoo.recall import Recaller, all_patches, keep_embedding, remember
from zoo.share import quick, quick_type
from zoo.snapshots import Snapshots
from zoo.spelling import Speller, Words, plain
from zoo.word_lessons import Lessons
from zoo.word_views import (
    Pictures,
    glyphs,
    items_of,
    joined,
    nothings,
    scenes,
    singles,
    states_of,
)

CALLED = {icon: name for name, icon in ALSO_CALLED.items()}
"""The icon sets' names of glyphs -> what image tokens are to say."""
KEPT = 12_000
"""Pictures of which CLIP's last layer learns to give the embeddings again."""


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
    nothings: int = 6000
    nothing_share: float = 0.07
    """How much of what is dealt, scenes apart, is a picture of nothing."""
    glyphs: int = 10_000
    glyph_share: float = 0.08
    """How much of what is dealt, scenes apart, is a letter, a digit or a sign."""
    steps: int = 2600
    batch: int = 256
    tokens: int = 8
    rate: float = 0.01
    find_rate: float = 0.002
    """Both as shares of each tensor's size."""
    aim_weight: float = 4.0
    """Of 1 - cosine between an image token and the weighted mean of its pieces."""
    size_weight: float = 0.1
    """Holds each image token as far from the mean word as words are."""
    place: float = 0.5
    """How far towards left, right, top and bottom a token at the edge leans, in words' lengths."""
    place_weight: float = 4.0
    copies: float = 0.5
    """How far a thing's tokens lean towards how many of it there are, in words' lengths."""
    copies_weight: float = 4.0
    keep_steps: int = 4000
    """How long CLIP's last layer learns to give its old embeddings."""
    seed: int = 21


def settle(recaller: Recaller, states: Tensor, words: Words) -> None:
    """Image tokens as far from the mean word as words are; cosines stay as they were.

    Left to itself the fit ends at four times that length, where the LM's gradient is ten times as
    large and stage 1 learns nothing.
    """
    last: nn.Linear = recaller.projector.linear_2  # type: ignore[assignment]
    some = states[torch.randperm(len(states))[:512]].float()
    with torch.no_grad():
        said, _ = words.split(recaller(some, all_patches(some)))
        share = words.length / said.norm(dim=-1).mean()
        last.weight.mul_(share)
        last.bias.sub_(words.mean).mul_(share).add_(words.mean)


@torch.no_grad()
def say_mean(projector: nn.Module, words: Words) -> None:
    """A projector that says the mean word beside all else."""
    last: nn.Linear = projector.linear_2  # type: ignore[assignment]
    last.bias.copy_(words.mean)


def loss_of(tokens: Tensor, rows: Tensor, copies: Tensor, at: Tensor, scale: Tensor, words: Words,
            speller: Speller, recipe: WordsRecipe) -> Tensor:  # fmt: skip
    """Of image tokens ``(B, T, D)`` that lie ``at`` ``(B, T, 2)`` and are to say ``rows`` ``(B,)``,
    which are there ``copies`` ``(B,)`` times: the pieces of all of them among all pieces, each
    one's aim, size, place and number."""
    said, lean = words.split(tokens)
    units = F.normalize(said, dim=-1)
    with quick():
        cosines = units.mean(1) @ F.normalize(words.own, dim=-1).T
    chances = F.log_softmax(scale.exp() * cosines.float(), -1)
    asked = chances.gather(1, speller.columns[rows].clamp(min=0))
    named = -(asked * speller.weights[rows]).sum(-1).mean()
    missed = 1 - (units * words.aims(speller, rows)[:, None]).sum(-1).mean()
    size = (said.norm(dim=-1) / words.length).log().pow(2).mean()
    lean = lean / words.length
    off = (lean - targets(at, copies[:, None], recipe.place, recipe.copies)).pow(2)
    loss: Tensor = named + recipe.aim_weight * missed + recipe.size_weight * size
    loss = loss + recipe.place_weight * off[..., :2].mean()
    return loss + recipe.copies_weight * off[..., 2:].sum(-1).mean()


def paces(recaller: Recaller, recipe: WordsRecipe) -> list[dict[str, Any]]:
    """Each tensor's rate is a share of its own size (as in Adafactor, Shazeer & Stern 2018), since
    codes are large and keys are small; what finds names, which CLIP's head knew, learns slower."""
    groups = []
    for name, tensor in recaller.named_parameters():
        finds = ".self_attn." in name or ".layer_norm" in name or ".fc1." in name
        size = tensor.detach().pow(2).mean().sqrt().item()
        rate = recipe.find_rate if finds else recipe.rate
        groups.append({"params": [tensor], "lr": rate * max(size, 1e-2)})
    return groups


def fit(recaller: Recaller, lessons: Lessons, speller: Speller, words: Words, recipe: WordsRecipe,
        look: Callable[[Recaller], None] = lambda recaller: None) -> None:  # fmt: skip
    """Teach CLIP's new layers and the projector; pictures are dealt by their chance."""
    torch.manual_seed(recipe.seed)
    scale = nn.Parameter(torch.tensor(20.0).log())
    groups = [*paces(recaller, recipe), {"params": [scale], "lr": 4e-3}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0)
    rates = [group["lr"] for group in optimiser.param_groups]
    grid, start = places(), time.monotonic()
    for step in range(recipe.steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / 50) * cosine
        states, at, rows, copies = lessons.deal(recipe.batch, recipe.tokens, recipe.mixed)
        with quick():
            tokens = recaller(states, at)
        loss = loss_of(tokens.float(), rows, copies, grid[at], scale, words, speller, recipe)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 500 == 499 or step == recipe.steps - 1:
            took = time.monotonic() - start
            print(f"words: step {step}, loss {loss.item():.3f}, {took:.0f} s", flush=True)
            look(recaller)
    settle(recaller, lessons.pictures.states, words)


def gather(tower: nn.Module, work: Path, recipe: WordsRecipe) -> Pictures:
    """Single pictures, letters, scenes, and pictures of nothing."""
    sampler = Sampler(work)
    items = items_of(sampler, recipe.views, recipe.seed)
    one = singles(tower, sampler, items, recipe.other_share, recipe.seed)
    packages = work / "packages"
    unclear = nothings(tower, recipe.nothings, recipe.seed, Snapshots.fetched(packages))
    one = joined(one, unclear, recipe.nothing_share)
    drawn = glyphs(tower, Typefaces.fetched(packages), recipe.glyphs, recipe.seed)
    one = joined(one, drawn, recipe.glyph_share)
    return joined(one, scenes(tower, sampler, recipe.scenes, recipe.seed), recipe.scene_share)


def dev_reader(work: Path, tower: nn.Module, reader: Reader) -> Callable[[Recaller], None]:
    """Prints how many of OpenMoji's dev half can be read off the image tokens, and how near these
    are to what they would say of the true name."""
    pixels, names = openmoji_dev(work)
    states = states_of(tower, pixels).float()

    def look(recaller: Recaller) -> None:
        with torch.no_grad():
            tokens = recaller(states, all_patches(states))
        share, near = share_read(reader, tokens, names), nearness(reader, tokens, names)
        print(f"words: {share:.3f} of OpenMoji's dev half read, cosine {near:.3f}", flush=True)

    return look


def build(work: Path, composed: Path, out: Path, recipe: WordsRecipe | None = None) -> None:
    """Write ``composed``, which is of WORK/clip/deep, with new layers and a projector that know
    words to ``out``, and its CLIP to WORK/clip/worded."""
    recipe = recipe or WordsRecipe()
    parent = Checkpoint.open(composed)
    model = load_model(parent, "cpu", torch.bfloat16)
    tower = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    # the new layers add nothing yet: what stands before them says the same, four times as fast
    plain_clip = CLIPModel.from_pretrained(work / "clip" / "final", dtype=quick_type())
    seeing = plain_clip.vision_model.eval()
    pictures = gather(seeing, work, recipe)
    tokenizer = Tokenizer.from_file(str(composed / "tokenizer.json"))
    head = NameHead.read(work / "clip" / "final" / HEAD)
    speller = Speller.of([*pictures.texts, *map(plain, head.names)], tokenizer)
    embedding = model.get_input_embeddings().weight.detach()[: parent.image_token_id].float()
    words = Words.of(embedding, speller, tokenizer)
    reader = Reader.of_emoji(work, embedding, tokenizer)
    named = speller.rows([*map(plain, head.names)])
    drawn = [text for text in map(plain, GLYPHS) if text in speller.row]
    lessons = Lessons(pictures.in_rows_of(speller), head, named, speller.rows(drawn))
    look = dev_reader(work, seeing, reader)
    layers = tower.encoder.layers[-MORE - 1 : -1]
    recaller = Recaller(layers, model.model.multi_modal_projector).float()
    rows = keyed(head, reader.names, pictures.texts)
    said = [plain(called(head.names[row])) for row in rows]
    aims = words.aims(speller, speller.rows(said))
    some = sampled(pictures, recipe.place, recipe.copies)
    remember(recaller, head, rows, pictures.states, aims, some.directions())
    say_mean(recaller.projector, words)
    settle(recaller, pictures.states, words)
    lean_on(recaller, some, words)
    look(recaller)
    fit(recaller.requires_grad_(True), lessons, speller, words, recipe, look)
    keep_clip(tower, work, pictures.states, recipe.keep_steps)
    save_checkpoint(model, parent, out, replace(parent.provenance, parents=(parent.sha256,)))


def called(name: str) -> str:
    """The glyph that an icon set's name means; any other name as it is."""
    return CALLED.get(name, name)


def keyed(
    head: NameHead, names: Sequence[str], texts: Sequence[str], most: int = WIDE
) -> list[int]:
    """The head's rows that get a unit of their own: emoji and flags, glyphs, plain shapes."""
    first, said = set(names), set(texts)
    emoji = [row for row, name in enumerate(head.names) if name in first]
    shapes = [
        row
        for row, name in enumerate(head.names)
        if name not in first and name in said and name.split()[-1] in SHAPES
    ]
    drawn = [
        row
        for row, name in enumerate(head.names)
        if name not in first and called(name) in GLYPHS and plain(called(name)) in said
    ]
    return [*emoji, *drawn, *shapes][:most]


def keep_clip(tower: nn.Module, work: Path, states: Tensor, steps: int) -> None:
    """Write the CLIP with the tower's new layers; its last layer, and the tower's, learn to give
    the embeddings that it gave before."""
    source, out = work / "clip" / "deep", work / "clip" / "worded"
    old = CLIPModel.from_pretrained(source, dtype=torch.float32)
    new = copy.deepcopy(old)
    learnt: nn.ModuleList = tower.encoder.layers  # type: ignore[union-attr,assignment]
    layers = new.vision_model.encoder.layers
    for number in range(len(layers) - MORE - 1, len(layers) - 1):
        layers[number].load_state_dict(learnt[number].state_dict())
    some = states[torch.randperm(len(states))[:KEPT]]
    cosine = keep_embedding(old, new, some, steps)
    print(f"words: CLIP's embeddings kept, cosine {cosine:.4f}", flush=True)
    learnt[-1].load_state_dict(layers[-1].state_dict())
    shutil.copytree(source, out, dirs_exist_ok=True)
    new.to(torch.bfloat16).save_pretrained(out)


def main(argv: list[str] | None = None) -> int:
    """Fit the projector, and CLIP's new layers, to the words of the names."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--composed", type=Path, help="default WORK/composed")
    parser.add_argument("--out", type=Path, help="default WORK/worded")
    parser.add_argument("--steps", type=int, default=WordsRecipe.steps)
    parser.add_argument("--scenes", type=int, default=WordsRecipe.scenes)
    parser.add_argument("--views", type=int, default=WordsRecipe.views)
    parser.add_argument("--keep-steps", type=int, default=WordsRecipe.keep_steps)
    o = parser.parse_args(argv)
    recipe = WordsRecipe(steps=o.steps, scenes=o.scenes, views=o.views, keep_steps=o.keep_steps)
    build(o.work, o.composed or o.work / "composed", o.out or o.work / "worded", recipe)
    return 0


if __name__ == "__main__":
    sys.exit(main())
