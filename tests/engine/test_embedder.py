"""Prompts become embeddings; a picture goes through the vision tower once."""

from pathlib import Path

import numpy as np
from tiny_llava import SIZE, WIDTH

from neva.engine.embedder import Embedder
from neva.engine.graphs import export
from neva.engine.lru import ArrayCache
from neva.engine.messages import Add, Picture, Setup
from neva.engine.protocol import Sampling
from neva.model.checkpoint import Checkpoint


def request(digest: str, fill: float) -> Add:
    pixels = np.full((3, SIZE, SIZE), fill, np.float32)
    return Add(0, np.arange(3, 43), (Picture(digest, pixels, 10),), Sampling(), frozenset())


def test_a_picture_is_encoded_once(tiny: Path) -> None:
    checkpoint = Checkpoint.open(tiny)
    made = export(checkpoint, "int8")
    per_image = checkpoint.image_tokens * WIDTH * 4
    setup = Setup(str(tiny), "chatml", "int8", str(made.folder), {}, {}, 8, 2 * per_image, None)
    embedder = Embedder(made, setup)
    first = embedder.embed(request("a", 0.1))
    again = embedder.embed(request("a", 0.1))
    assert embedder.encoded == 1
    assert first.shape == (1, 40, WIDTH) and np.array_equal(first, again)
    other = embedder.embed(request("b", 0.9))
    assert embedder.encoded == 2
    differs = np.any(other != first, axis=-1)[0]
    assert differs[10 : 10 + checkpoint.image_tokens].all() and differs.sum() == 16
    embedder.embed(request("c", 0.5))  # pushes "a" out: two fit
    embedder.embed(request("b", 0.9))
    assert embedder.encoded == 3
    embedder.embed(request("a", 0.1))
    assert embedder.encoded == 4


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = ArrayCache(100)
    for key in "abc":
        cache.put(key, np.zeros(40, np.uint8))
    cache.put("huge", np.zeros(101, np.uint8))
    assert [cache.get(key) is None for key in ("a", "b", "c", "huge")] == [True, False, False, True]
    assert len(cache) == 2
