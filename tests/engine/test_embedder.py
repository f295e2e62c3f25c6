"""Prompts become embeddings; a picture goes through the vision tower once."""

import select
from pathlib import Path

import numpy as np
import pytest
from tiny_llava import SIZE, WIDTH

from neva.engine.embedder import Embedder
from neva.engine.eyes import Eyes
from neva.engine.graphs import Export, export
from neva.engine.lru import ArrayCache
from neva.engine.messages import Add, Picture, Setup
from neva.engine.prefixes import BLOCK, PrefixTally
from neva.engine.protocol import Sampling
from neva.model.checkpoint import Checkpoint


def request(name: str) -> Add:
    return Add(0, np.arange(3, 43), (Picture(name, 10),), Sampling(), frozenset())


@pytest.fixture
def made(tiny: Path) -> tuple[Export, Setup]:
    checkpoint = Checkpoint.open(tiny)
    found = export(checkpoint, "int8")
    kept = 2 * checkpoint.image_tokens * WIDTH * 4  # room for two pictures
    setup = Setup(
        str(tiny), "chatml", "int8", str(found.folder), {}, {}, checkpoint.pixels,
        cache_blocks=8, image_cache_bytes=kept, threads=None, spelled=None, end=0,
    )  # fmt: skip
    return found, setup


def look(eyes: Eyes, name: str, fill: int) -> np.ndarray:
    eyes.expect(name)
    eyes.look(name, np.full((SIZE, SIZE, 3), fill, np.uint8))
    assert select.select([eyes.descriptor], [], [], 60)[0]
    ((seen, features),) = eyes.seen()
    assert seen == name and not eyes.looks_for(name) and isinstance(features, np.ndarray)
    return features


def test_a_picture_is_kept_until_there_is_no_room(made: tuple[Export, Setup]) -> None:
    eyes, embedder = Eyes(*made), Embedder(*made)
    first = look(eyes, "mine/a", 10)
    assert embedder.find(request("mine/a")) == {"mine/a": None}
    embedder.keep("mine/a", first)
    found = embedder.find(request("mine/a"))
    embeds = embedder.embed(request("mine/a"), found)
    assert embeds.shape == (1, 40, WIDTH)
    assert np.array_equal(embeds[0, 10 : 10 + len(first)], first)
    assert embedder.find(request("yours/a")) == {"yours/a": None}
    assert (embedder.asked, embedder.known) == (3, 1) and embedder.nbytes == first.nbytes
    other = look(eyes, "mine/b", 200)
    embedder.keep("mine/b", other)
    moved = embedder.embed(request("mine/b"), {"mine/b": other})
    differs = np.any(moved != embeds, axis=-1)[0]
    assert differs[10 : 10 + len(first)].all() and differs.sum() == len(first)
    embedder.keep("mine/c", other)  # pushes "a" out: two fit
    assert embedder.find(request("mine/a")) == {"mine/a": None}
    with pytest.raises(ValueError, match="not finite"):
        embedder.embed(request("x"), {"x": np.full_like(first, np.nan)})


def test_what_nobody_wants_is_not_encoded(made: tuple[Export, Setup]) -> None:
    eyes = Eyes(*made)
    eyes.expect("gone")
    eyes.forget("gone")
    eyes.look("gone", np.zeros((SIZE, SIZE, 3), np.uint8))
    look(eyes, "wanted", 10)
    assert eyes.encoded == 1


def test_a_wrong_picture_is_an_answer_too(made: tuple[Export, Setup]) -> None:
    eyes = Eyes(*made)
    eyes.expect("bad")
    eyes.look("bad", np.zeros((3, 3, 3), np.uint8))
    assert select.select([eyes.descriptor], [], [], 60)[0]
    ((_, failure),) = eyes.seen()
    assert isinstance(failure, Exception)


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = ArrayCache(100)
    for key in "abc":
        cache.put(key, np.zeros(40, np.uint8))
    cache.put("huge", np.zeros(101, np.uint8))
    assert [cache.get(key) is None for key in ("a", "b", "c", "huge")] == [True, False, False, True]
    assert len(cache) == 2 and cache.nbytes == 80


def test_prefixes_are_told_apart_by_ids_and_pictures() -> None:
    tally = PrefixTally(blocks=4, image_tokens=16)
    prompt, shown = list(range(3 * BLOCK + 5)), [Picture("a", 40)]
    tally.ask(prompt, shown)
    assert (tally.asked, tally.known) == (len(prompt), 0)
    tally.keep(prompt, shown)
    tally.ask([*prompt, 7], shown)
    assert tally.known == 3 * BLOCK
    tally.ask(prompt, [Picture("b", 40)])  # only what is before the picture's block
    assert tally.known == 4 * BLOCK
    tally.ask(prompt[: 2 * BLOCK], shown)  # the last token is always computed
    assert tally.known == 5 * BLOCK
    tally.keep(list(range(500, 500 + 4 * BLOCK)), [])
    tally.ask(prompt, shown)
    assert tally.known == 5 * BLOCK
