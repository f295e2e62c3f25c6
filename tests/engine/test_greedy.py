"""What is next to 0 is 0: tiny temperatures and top_p are greedy, by both engines."""

from dataclasses import replace
from pathlib import Path

import pytest

from neva.engine import open_engine
from neva.engine.protocol import ALONE, GREEDY, Request, Sampling, collect
from neva.prompts import ask

ASKED = Request(ask("Who are you?", images=0), (), Sampling(0.0, 0.9, 24))
TINY: tuple[dict[str, float], ...] = (
    {"temperature": 1e-45},
    {"temperature": 1e-38},
    {"temperature": 9e-6},
    {"temperature": 1.0, "top_p": 1e-50},
    {"temperature": 1.0, "top_p": 9e-7},
)


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_next_to_nothing_is_greedy(name: str, tiny: Path) -> None:
    """1e-45 is 0 to a processor that flushes small numbers, and logits over 1e-38 are infinite."""
    cold = [replace(ASKED, sampling=replace(ASKED.sampling, **changes)) for changes in TINY]
    engine = open_engine(tiny, name, "fp32")
    try:
        expected, *found = (collect(one) for one in engine.generate([ASKED, *cold]))
    finally:
        engine.close()
    for changes, (text, last) in zip(TINY, found, strict=True):
        assert last.finish == "length", (changes, last.error)
        assert text == expected[0], changes


def test_what_is_larger_is_drawn() -> None:
    assert Sampling(0.0).greedy and not Sampling(GREEDY, ALONE).greedy
