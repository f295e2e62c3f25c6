"""The paged KV cache keeps only what was computed, whoever leaves when.

genai names a block by all that is to stand in it when the first of it is computed. A prompt that is
cancelled between two of its pieces would leave a block for others whose rest was never computed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from neva.engine.graphs import export
from neva.engine.messages import Add, Failed, Setup, Tokens
from neva.engine.paged import PagedModel
from neva.engine.precision import PRECISIONS
from neva.engine.protocol import Sampling
from neva.model.checkpoint import Checkpoint

LONG = 200  # tokens of a prompt; a step computes 256, and blocks hold 32


@pytest.fixture
def models(tiny: Path) -> Iterator[Callable[[], PagedModel]]:
    checkpoint, precision = Checkpoint.open(tiny), PRECISIONS["fp32"]
    made = export(checkpoint, precision.weights)
    setup = Setup(
        checkpoint=str(tiny), template=checkpoint.template.name, weights=precision.weights,
        folder=None, language=precision.language, vision=precision.vision,
        pixels=checkpoint.pixels, cache_blocks=256, image_cache_bytes=0, threads=1,
    )  # fmt: skip
    yield lambda: PagedModel(made, setup)


def prompt(seed: int, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (1, LONG, width)).astype(np.float32)


class Asked:
    """A model, and what it says of prompts, each with a key of its own."""

    def __init__(self, model: PagedModel, width: int) -> None:
        self.model, self.width, self.heard = model, width, dict[int, list[float]]()

    def add(self, key: int, seed: int, tokens: int = 4) -> None:
        sampling = Sampling(temperature=0, max_tokens=tokens, logprobs=True)
        request = Add(key, np.zeros(0, np.int64), (), sampling, frozenset((1,)))
        self.model.add(request, prompt(seed, self.width))

    def step(self) -> None:
        for news in self.model.step():
            assert isinstance(news, Tokens) and not isinstance(news, Failed)
            self.heard.setdefault(news.key, []).extend(news.logprobs)

    def rest(self) -> None:
        for _ in range(200):
            if not self.model.busy:
                return
            self.step()
        raise AssertionError("it never comes to rest")

    def answer(self, key: int, seed: int) -> list[float]:
        self.add(key, seed)
        self.rest()
        return self.heard[key]


@pytest.fixture
def width(tiny: Path) -> int:
    return int(Checkpoint.open(tiny).config["text_config"]["hidden_size"])


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_who_leaves_leaves_nothing_half_computed(
    models: Callable[[], PagedModel], width: int, steps: int
) -> None:
    fresh = Asked(models(), width)
    wanted = {seed: fresh.answer(seed, seed) for seed in range(3)}
    asked = Asked(models(), width)
    for seed in range(3):
        asked.add(seed, seed)
    for _ in range(steps):
        asked.step()
    for seed in (1, 2):  # one whose prompt is under way, and one that nothing was done for
        asked.model.cancel(seed)
    asked.rest()
    assert asked.heard[0] == pytest.approx(wanted[0], abs=1e-4)
    if steps < 2:
        assert 1 not in asked.heard and 2 not in asked.heard  # nobody listens any more
    for seed in range(3):
        assert asked.answer(10 + seed, seed) == pytest.approx(wanted[seed], abs=1e-4), seed


def test_who_leaves_is_gone_at_once_where_that_is_safe(
    models: Callable[[], PagedModel], width: int
) -> None:
    asked = Asked(models(), width)
    asked.add(0, 0, tokens=50)
    asked.model.cancel(0)
    assert not asked.model.busy  # no step has come
    for seed in (1, 2, 3):
        asked.add(seed, seed, tokens=50)
    asked.step()  # all of 1, a piece of 2, nothing of 3
    asked.model.cancel(1)
    asked.model.cancel(3)
    assert list(asked.model.live) == [2]
    asked.model.cancel(2)
    assert list(asked.model.live) == [2]  # until its prompt is whole
    asked.rest()
    assert set(asked.heard) == {1}
