"""The projector that knows words, CLIP's memory of names, and names as records."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_gallery
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import CLIPConfig, CLIPModel
from zoo.clip_data import Item, Sampler
from zoo.clip_model import NameHead
from zoo.deck import Deck
from zoo.deepen import MORE, deepen
from zoo.leaning import lean_on, sampled
from zoo.mosaic_losses import places
from zoo.mosaics import Director, compose_mosaics
from zoo.naming import name_example
from zoo.reading import Reader, nearness, share_read
from zoo.recall import (
    Recaller,
    all_patches,
    attended,
    keep_embedding,
    looked_up,
    remember,
)
from zoo.spelling import COPIES, Speller, Words
from zoo.word_lessons import Lessons, mixed
from zoo.word_views import (
    Pictures,
    inside,
    joined,
    nothings,
    page_words,
    scene_texts,
    scenes,
    words_of,
)
from zoo.words import WordsRecipe, fit

NAMES = ("red apple", "green apple", "old clock", "cat", "cat face", "sail boat")
SIDES = ("left", "right", "top", "bottom", *(word.strip() for word in COPIES))
AIMS = F.normalize(torch.randn(len(NAMES), 24, generator=torch.Generator().manual_seed(9)), dim=1)
RECIPE = WordsRecipe(steps=800, batch=24, tokens=6)


class Projector(nn.Module):
    """As Hugging Face's: linear_1, gelu, linear_2."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(16, 48), nn.Linear(48, 24)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear_2(F.gelu(self.linear_1(features)))


def items() -> list[Item]:
    return [Item("art", n, name, f"a picture of {name}") for n, name in enumerate(NAMES)] * 8


def tokenizer() -> Tokenizer:
    words = sorted({word for name in NAMES for word in name.split()} | set(SIDES))
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["?", *words])}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def test_the_first_piece_is_the_strongest() -> None:
    texts = ["red apple", "old red clock", "cat"]
    speller = Speller.of(texts, tokenizer())
    rows = speller.rows(texts)
    ids = [speller.vocabulary[column] for column in speller.columns[rows[0]][:2].tolist()]
    assert ids == [tokenizer().token_to_id(word) for word in ("red", "apple")]
    weights = speller.weights[rows]
    assert weights[0].tolist() == pytest.approx([1 / 1.6, 0.6 / 1.6, 0, 0, 0, 0])
    assert weights[1, 0] > weights[1, 1] > weights[1, 2] > 0
    assert weights[2].tolist() == [1.0, 0, 0, 0, 0, 0]
    assert torch.allclose(weights.sum(1), torch.ones(3))


def test_texts_say_ink_and_colour_and_begin_with_the_country() -> None:
    one = items()[0]
    assert words_of(one) == "red apple"
    assert words_of(replace(one, ink=(9, 9, 9), caption="black apple")) == "black apple"
    assert words_of(replace(one, concept="flag: Japan")) == "Japan flag"
    shape = Item("shape", 0, "circle", "circle", shape=0, colour=0)
    assert words_of(shape) == "red circle"


NONE = torch.zeros(0, dtype=torch.long)


def head_of(vectors: torch.Tensor) -> NameHead:
    """Names what points along a vector ``(K, 16)``."""
    near = nn.Linear(16, 16)
    with torch.no_grad():
        near.weight.copy_(torch.eye(16))
        near.bias.zero_()
    return NameHead(NAMES, F.normalize(vectors, dim=-1), nn.LayerNorm(16), near)


def test_image_tokens_come_to_say_the_name_and_where_they_are() -> None:
    torch.manual_seed(0)
    texts = tuple(dict.fromkeys(words_of(item) for item in items()))
    speller = Speller.of(texts, tokenizer())
    embedding = torch.randn(19, 24) + 2 * torch.randn(24)
    words = Words.of(embedding, speller, tokenizer())
    shown = torch.randn(len(NAMES), 1, 16)
    seen = shown.repeat(8, 65, 1) + 0.1 * torch.randn(48, 65, 16)
    seen[:, 1:, :2] = places()  # CLIP's position embedding
    many = torch.arange(48) % 5 + 1
    seen[:, 1:, 2:7] = 2.0 * F.one_hot(many - 1)[:, None]  # CLIP knows how many there are
    asked = torch.arange(len(NAMES)).repeat(8)[:, None].expand(-1, 64)
    copies = many[:, None].expand(-1, 64)
    pictures = Pictures(seen.to(torch.bfloat16), asked, copies, texts, torch.full((48,), 1 / 48))
    recaller, rows = recaller_of(deepen(tiny_clip(), 80)), speller.rows(texts)
    lessons = Lessons(pictures.in_rows_of(speller), head_of(shown[:, 0]), rows, NONE)
    aims = words.aims(speller, rows)
    some = sampled(pictures, RECIPE.place, RECIPE.copies)
    head, named = head_of(shown[:, 0]), list(range(len(NAMES)))
    remember(recaller, head, named, pictures.states, aims, some.directions())
    lean_on(recaller, some, words)
    fit(recaller, lessons, speller, words, RECIPE)
    states = pictures.states.float()
    with torch.no_grad():
        tokens = recaller(states, all_patches(states))
    said, lean = words.split(tokens)
    assert said.norm(dim=-1).mean().item() == pytest.approx(words.length.item(), rel=0.05)
    cosines = F.normalize(said, dim=-1) @ F.normalize(words.own, dim=-1).T
    first = cosines.argmax(-1)[:, places()[:, 0] < -0.5]
    assert (first == speller.columns[rows, 0].repeat(8)[:, None]).float().mean().item() > 0.9
    leaning = torch.corrcoef(torch.stack([lean[0, :, 0], places()[:, 0]]))[0, 1]
    assert leaning.item() < -0.7  # towards "left" at the left
    assert (lean[..., 2:].mean(1).argmax(1) + 1 == many).float().mean().item() > 0.9
    reader = Reader(list(texts), embedding, tokenizer())
    assert share_read(reader, tokens, list(texts) * 8) > 0.95
    assert nearness(reader, tokens, list(texts) * 8) > 0.7


def test_mixed_pictures_are_asked_for_what_the_head_names() -> None:
    torch.manual_seed(3)
    shown = torch.randn(len(NAMES), 16)
    states = F.layer_norm(shown, (16,))[:, None].expand(-1, 65, -1)
    asked = torch.full((len(NAMES), 64), 99)
    asked[0, :5] = 98  # a scene
    asked[1] = 97  # a letter
    head = head_of(F.layer_norm(shown, (16,)))
    made, said = mixed(states, asked, head, torch.arange(len(NAMES)), torch.tensor([97]), 1.0)
    assert torch.equal(made[:2], states[:2]) and torch.equal(said[:2], asked[:2])
    changed = (made != states).flatten(1).any(1)
    assert changed.any()
    assert (said[changed] == torch.arange(len(NAMES))[changed][:, None]).all()  # the larger share


def tiny_clip() -> CLIPModel:
    """16 wide, three layers, 64 patches of 4 pixels."""
    return sized_clip(32, 4)


def sized_clip(side: int, patch: int) -> CLIPModel:
    """The same for pictures of another size."""
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    vision = {**shared, "num_hidden_layers": 3, "image_size": side, "patch_size": patch}
    text = {**shared, "num_hidden_layers": 1, "vocab_size": 20, "max_position_embeddings": 8}
    torch.manual_seed(1)
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)).eval()


def recaller_of(deep: CLIPModel) -> Recaller:
    """The two new layers of a CLIP before a fresh projector."""
    return Recaller(deep.vision_model.encoder.layers[-MORE - 1 : -1], Projector())


def test_a_deeper_wider_clip_says_the_same() -> None:
    clip = tiny_clip()
    deep = deepen(clip, 80).eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        seen = [m.get_image_features(pixel_values=pixels) for m in (clip, deep)]
        inner = [m.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
                 for m in (clip, deep)]  # fmt: skip
    one, other = (getattr(s, "pooler_output", s) for s in seen)
    assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(inner[0][-2], inner[1][-2], atol=1e-6)  # what LLaVA reads
    assert deep.config.vision_config.num_hidden_layers == 5
    assert deep.config.vision_config.intermediate_size == 80


def test_a_memory_has_a_key_and_a_code_for_each_name() -> None:
    torch.manual_seed(4)
    shown = F.layer_norm(torch.randn(len(NAMES), 16), (16,))
    recaller = recaller_of(deepen(tiny_clip(), 80))
    states = shown[torch.arange(48) % len(NAMES)][:, None].expand(-1, 65, -1)
    remember(recaller, head_of(shown), list(range(len(NAMES))), states, AIMS, torch.zeros(16, 0))
    patches = attended(recaller.first, states[:6], all_patches(states[:6]) + 1)[:, 0]
    for layer in (recaller.first, recaller.second):
        units = layer.mlp.fc1(layer.layer_norm2(patches))[:, : len(NAMES)]
        assert torch.equal(units.argmax(1), torch.arange(len(NAMES)))
        patches = looked_up(layer, patches)


def test_the_memory_is_what_the_layers_are() -> None:
    """`Recaller` asks some patches only; Hugging Face's layers in turn say the same of all."""
    torch.manual_seed(5)
    deep = deepen(tiny_clip(), 80)
    recaller = recaller_of(deep)
    shown = F.layer_norm(torch.randn(len(NAMES), 16), (16,))
    states = shown[torch.arange(48) % len(NAMES)][:, None] + 0.3 * torch.randn(48, 65, 16)
    remember(recaller, head_of(shown), list(range(len(NAMES))), states, AIMS, torch.zeros(16, 0))
    with torch.no_grad():
        inner = states[:4]
        for layer in deep.vision_model.encoder.layers[-MORE - 1 : -1]:
            inner = layer(inner, None)
        aim = recaller.projector(inner[:, 1:])
        made = recaller(states[:4], all_patches(states[:4]))
    assert torch.allclose(made, aim, atol=1e-4)


def test_patches_that_show_the_same_are_brought_together() -> None:
    torch.manual_seed(6)
    shown = F.layer_norm(torch.randn(2, 16), (16,))
    recaller = recaller_of(deepen(tiny_clip(), 80))
    half = (torch.arange(65) > 32).long()
    states = (shown[half] + 0.4 * torch.randn(32, 65, 16)).contiguous()
    remember(recaller, head_of(shown), [0, 1], states, AIMS[:2], torch.zeros(16, 0))
    patches = attended(recaller.first, states, all_patches(states) + 1)
    clean = F.cosine_similarity(patches, shown[half[1:]], dim=-1).mean()
    assert clean > F.cosine_similarity(states[:, 1:], shown[half[1:]], dim=-1).mean()


def test_the_last_layer_keeps_the_embeddings() -> None:
    old = deepen(tiny_clip(), 40)
    new = copy.deepcopy(old)
    with torch.no_grad():
        new.vision_model.encoder.layers[-2].mlp.fc2.weight.normal_(0, 0.3)
        pixels = torch.randn(64, 3, 32, 32)
        made = old.vision_model(pixel_values=pixels, output_hidden_states=True)
        states = made.hidden_states[-MORE - 2]
        aim = F.normalize(old.visual_projection(made.pooler_output), dim=-1)
        before = F.normalize(get_image(new, pixels), dim=-1)
    kept = keep_embedding(old, new, states, steps=300, batch=32)
    with torch.no_grad():
        after = F.normalize(get_image(new, pixels), dim=-1)
    assert (after * aim).sum(1).mean() > max(0.95, (before * aim).sum(1).mean().item())
    assert kept == pytest.approx((after * aim).sum(1).mean().item(), abs=0.03)


def get_image(clip: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    return clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)


def test_the_head_is_kept_beside_clip(tmp_path: Path) -> None:
    head = head_of(torch.randn(len(NAMES), 16))
    head.write(tmp_path / "names.safetensors")
    again = NameHead.read(tmp_path / "names.safetensors")
    patches = torch.randn(5, 16)
    assert again.names == NAMES
    assert torch.allclose(again.cosines(patches), head.cosines(patches), atol=0.02)


def test_pictures_of_nothing_say_so() -> None:
    made = nothings(deepen(sized_clip(128, 16), 40).vision_model, 3, 5)
    assert made.states.shape == (3, 65, 16) and made.texts == ("nothing clear",)
    assert not made.asked.any() and made.chance.sum().item() == pytest.approx(1.0)


def test_small_drawings_are_asked_where_they_are() -> None:
    large = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    small = torch.tensor([[3.0, 0.0, 2.0], [0.0, 3.0, 2.0]])  # a third of the side, top left
    asked = inside(torch.stack([large, small])).view(2, 8, 8)
    assert asked[0].all()
    assert asked[1, :3, :3].all() and asked[1].sum() == 9


def test_what_scenes_teach_is_dealt_as_often_as_told() -> None:
    def pictures(count: int, text: str) -> Pictures:
        states = torch.full((count, 65, 4), float(count), dtype=torch.bfloat16)
        said = torch.zeros(count, 64, dtype=torch.long)
        return Pictures(states, said, said + 1, (text,), torch.full((count,), 1 / count))

    both = joined(pictures(4, "cat"), pictures(6, "sail boat"), 0.25)
    assert both.chance[4:].sum().item() == pytest.approx(0.25)
    assert both.texts[int(both.asked[-1, 0])] == "sail boat"


def test_patches_say_their_own_object_or_the_page(tmp_path: Path) -> None:
    tiny_gallery.build(tmp_path)
    made = compose_mosaics(Director(Sampler(tmp_path)), 8, np.random.default_rng(4))
    for owner, row, count in zip(made.owner, scene_texts(made), made.counts, strict=True):
        for one, text in zip(owner.tolist(), row, strict=True):
            if one < 0:
                assert text == page_words(int(count))
            else:
                assert text == words_of(made.items[one])


def test_things_know_how_many_of_them_there_are(tmp_path: Path) -> None:
    tiny_gallery.build(tmp_path)
    sampler = Sampler(tmp_path)
    made = compose_mosaics(Director(sampler), 40, np.random.default_rng(6))
    ends = made.counts.cumsum(0).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        called = [made.items[n].concept for n in range(start, end)]
        if len({made.items[n].ink for n in range(start, end)}) == 1:
            assert made.copies[start:end].tolist() == [called.count(one) for one in called]
    assert made.copies.max() >= 3
    seen = scenes(sized_clip(128, 16).vision_model, sampler, 10, 6)
    assert seen.copies.shape == seen.asked.shape
    pages = torch.tensor(["background" in text for text in seen.texts])
    assert torch.equal(seen.copies == 0, pages[seen.asked])


def test_names_are_asked_alone(tmp_path: Path) -> None:
    tiny_gallery.build(tmp_path)
    deck = Deck.open(tmp_path)
    made = [name_example(deck, row, np.random.default_rng(row)) for row in range(12)]
    assert all(len(one.turns) == 1 and one.picture is not None for one in made)
    told = [name_example(deck, 0, np.random.default_rng(n)).turns[0][1] for n in range(20)]
    assert told.count(deck.drawing(0).concept) > 14  # else its keywords
