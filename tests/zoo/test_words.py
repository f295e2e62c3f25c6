"""The projector that knows words, names as records, the base LM's own chatter."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_gallery
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from zoo.chatter import cut, prompts
from zoo.clip_data import Item, Sampler
from zoo.deck import Deck
from zoo.mosaic_losses import places
from zoo.mosaics import Director, compose_mosaics
from zoo.naming import may_restyle, name_example, restyled
from zoo.word_views import Lessons, bags, joined, words_of
from zoo.words import Words, WordsRecipe, fit

NAMES = ("red apple", "green apple", "old clock", "cat", "cat face", "sail boat")
SIDES = ("left", "right", "top", "bottom")
RECIPE = WordsRecipe(steps=200, batch=24, tokens=3)


class Projector(nn.Module):
    """As Hugging Face's: linear_1, gelu, linear_2."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(16, 32), nn.Linear(32, 24)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear_2(F.gelu(self.linear_1(features)))


def items() -> list[Item]:
    return [Item("art", n, name, f"a picture of {name}") for n, name in enumerate(NAMES)] * 8


def tokenizer() -> Tokenizer:
    words = sorted({word for name in NAMES for word in name.split()} | set(SIDES))
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["?", *words])}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def lessons(seen: torch.Tensor, texts: list[str]) -> Lessons:
    """One lesson a picture, all of its tokens."""
    count = len(texts)
    whole = torch.ones(count, seen.shape[1], dtype=torch.bool)
    pictures = torch.arange(count)
    return Lessons(seen.to(torch.bfloat16), pictures, whole, texts, torch.ones(count))


def test_a_name_is_its_words_and_rare_ones_weigh_more() -> None:
    made = bags([words_of(item) for item in items()], tokenizer())
    assert len(made.vocabulary) == 9
    apple = made.vocabulary.index(tokenizer().token_to_id("apple"))
    first = dict(zip(made.columns[0].tolist(), made.weights[0].tolist(), strict=True))
    assert len(first) == 2 and sum(first.values()) == pytest.approx(1)
    assert first[apple] < 0.5  # two names have it


def test_a_recoloured_icon_says_its_ink() -> None:
    plain = items()[0]
    assert words_of(plain) == "red apple"
    assert words_of(replace(plain, ink=(9, 9, 9), caption="black apple")) == "black apple"


def test_image_tokens_come_to_say_the_name_and_where_they_are() -> None:
    torch.manual_seed(0)
    texts = [words_of(item) for item in items()]
    made = bags(texts, tokenizer())
    words = Words.of(torch.randn(14, 24) + 2 * torch.randn(24), made, tokenizer())
    seen = torch.randn(len(NAMES), 1, 16).repeat(8, 36, 1) + 0.1 * torch.randn(48, 36, 16)
    seen[..., :2] = places()  # CLIP's position embedding
    projector = Projector()
    fit(projector, lessons(seen, texts), made, words, RECIPE)
    with torch.no_grad():
        said, where = words.split(projector(seen))
    assert said.norm(dim=-1).mean().item() == pytest.approx(words.length.item(), rel=0.02)
    cosine = F.normalize(said, dim=-1).mean(1) @ F.normalize(words.own, dim=-1).T
    best = cosine.argmax(1)
    mine = [int(best[n]) in made.columns[n].tolist() for n in range(48)]
    assert np.mean(mine) == 1.0
    leaning = torch.corrcoef(torch.stack([where[0, :, 0], places()[:, 0]]))[0, 1]
    assert leaning.item() < -0.8  # towards "left" at the left


def test_what_scenes_teach_is_dealt_as_often_as_told() -> None:
    one = lessons(torch.zeros(4, 36, 16), ["cat"] * 4)
    both = joined(one, lessons(torch.ones(6, 36, 16), ["sail boat"] * 6), 0.25)
    assert both.chance[4:].sum().item() / both.chance.sum().item() == pytest.approx(0.25)
    assert both.features[both.picture[-1]].float().mean().item() == 1.0


def test_each_patch_of_a_scene_belongs_to_what_covers_it(tmp_path: Path) -> None:
    tiny_gallery.build(tmp_path)
    director = Director(Sampler(tmp_path))
    made = compose_mosaics(director, 12, np.random.default_rng(3))
    again = compose_mosaics(director, 12, np.random.default_rng(3))
    assert torch.equal(made.pixels, again.pixels) and torch.equal(made.owner, again.owner)
    assert len(made.items) == int(made.counts.sum())
    start = 0
    for owner, count in zip(made.owner, made.counts.tolist(), strict=True):
        assert set(owner.tolist()) <= {-1, *range(start, start + count)}
        start += count


def test_another_hand_keeps_the_outline_and_spares_flags(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:30, 10:30] = (200, 30, 30, 255)
    moved = restyled(Image.fromarray(pixels, "RGBA"), np.random.default_rng(0))
    assert np.array_equal(np.asarray(moved)[..., 3], pixels[..., 3])
    assert not np.array_equal(np.asarray(moved)[..., :3], pixels[..., :3])
    apple = SimpleNamespace(concept="red apple", group="food-drink")
    cat = SimpleNamespace(concept="cat", group="animals-nature")
    assert [may_restyle(d) for d in (apple, cat)] == [False, True]  # type: ignore[arg-type]


def test_names_are_asked_alone(tmp_path: Path) -> None:
    tiny_gallery.build(tmp_path)
    deck = Deck.open(tmp_path)
    made = [name_example(deck, row, np.random.default_rng(row)) for row in range(12)]
    assert all(len(one.turns) == 1 and one.picture is not None for one in made)
    assert made[0].turns[0][1] == deck.drawing(0).concept


def test_chatter_ends_with_a_sentence(tmp_path: Path) -> None:
    assert cut("One. Two thr", whole=False) == "One."
    assert cut(" One, two ", whole=True) == "One, two"
    tiny_gallery.build(tmp_path)
    deck = Deck.open(tmp_path)
    asked = prompts(deck, 4, 0)
    assert asked == prompts(deck, 4, 0) and len(set(asked)) == len(asked)
    assert asked[0].startswith("What is a")
