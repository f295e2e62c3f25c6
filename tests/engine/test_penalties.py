"""top_k and OpenAI's penalties: what the API defines, or a sentence where an engine cannot."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from neva.engine import open_engine
from neva.engine.protocol import Engine, Request, Sampling, collect
from neva.engine.torch_sample import choose, penalised
from neva.errors import NevaError
from neva.prompts import ask

GREEDY = {"temperature": 0.0, "max_tokens": 40}


@pytest.fixture(scope="module", params=["openvino", "torch"])
def engine(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Engine]:
    opened = open_engine(tiny, request.param, "fp32")
    yield opened
    opened.close()


def said(engine: Engine, **how: object) -> str:
    sampling = Sampling(**how)  # type: ignore[arg-type]
    text, last = collect(engine.generate([Request(ask("Tell", images=0), (), sampling)])[0])
    assert last.finish in ("stop", "length"), last.error
    return text


def test_a_penalty_makes_words_rare(engine: Engine) -> None:
    """A reward brings the tiny model to say one letter only; a penalty takes it away from it."""
    if not engine.info.penalties:
        words = "has no presence_penalty and no frequency_penalty"
        with pytest.raises(NevaError, match=words) as refusal:
            said(engine, **GREEDY, frequency_penalty=0.5)
        assert refusal.value.param == "frequency_penalty"  # the server says so
        return
    plain = said(engine, **GREEDY)
    fond = said(engine, **GREEDY, frequency_penalty=-1.0)
    most = max(fond.count(letter) for letter in fond)
    assert most > 2 * max(plain.count(letter) for letter in plain)
    dear = said(engine, **GREEDY, presence_penalty=2.0)
    assert len(set(dear)) > len(set(fond)) and plain == said(engine, **GREEDY)


def test_the_likeliest_alone_is_greedy(engine: Engine) -> None:
    hot = {"temperature": 2.0, "top_p": 1.0, "max_tokens": 20}
    assert said(engine, **hot, top_k=1) == said(engine, **{**GREEDY, "max_tokens": 20})
    assert said(engine, **hot, top_k=2) != said(engine, **hot)


def test_openais_formula() -> None:
    logits = torch.tensor([1.0, -1.0, 0.5, 0.0])
    how = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    assert penalised(logits, how, {0: 1, 1: 3}).tolist() == [0.25, -2.25, 0.5, 0.0]
    assert logits.tolist() == [1.0, -1.0, 0.5, 0.0]


def test_only_so_many_are_drawn() -> None:
    logits, generator = torch.linspace(0, 0.1, 50), torch.Generator().manual_seed(0)
    how = Sampling(temperature=2.0, top_p=1.0, top_k=3)
    assert {choose(logits, how, generator, {}) for _ in range(100)} == {47, 48, 49}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"top_k": -1}, "top_k is -1"),
        ({"presence_penalty": 2.1}, "presence_penalty is 2.1"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty is nan"),
    ],
)
def test_out_of_range_is_refused(engine: Engine, how: dict[str, float], sentence: str) -> None:
    if "penalty" in sentence and not engine.info.penalties:
        sentence = "has no presence_penalty"
    with pytest.raises(NevaError, match=sentence):
        said(engine, **how)
