"""What the engine remembers: whose pictures, how much of a conversation, told in figures."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neva.engine import open_engine
from neva.engine.openvino_engine import OpenVinoEngine
from neva.engine.protocol import Request, Sampling, collect
from neva.images.image import RGBImage
from neva.prompts import Conversation, ask, assistant, user

GREEDY = Sampling(temperature=0, max_tokens=24)


def picture(seed: int, side: int = 48) -> RGBImage:
    values = np.random.default_rng(seed).integers(0, 256, (side, 60, 3), dtype=np.uint8)
    return RGBImage(values, f"picture {seed}")


def shown(seed: int, owner: str = "") -> Request:
    return Request(ask("What is this?"), (picture(seed),), GREEDY, owner)


@pytest.fixture
def engine(tiny: Path) -> Iterator[OpenVinoEngine]:
    opened = open_engine(tiny)
    assert isinstance(opened, OpenVinoEngine)
    yield opened
    opened.close()


def text(engine: OpenVinoEngine, request: Request) -> str:
    said, last = collect(engine.generate([request])[0])
    assert last.finish in ("stop", "length"), last.error
    return said


def test_a_picture_is_known_to_its_owner_only(engine: OpenVinoEngine) -> None:
    first = text(engine, shown(0, "anna"))
    assert engine.figures()["image_cache_hits"] == 0
    assert text(engine, shown(0, "anna")) == first
    figures = engine.figures()
    assert (figures["image_cache_queries"], figures["image_cache_hits"]) == (2, 1)
    one = figures["image_cache_bytes"]
    assert text(engine, shown(0, "bert")) == first
    figures = engine.figures()
    assert (figures["image_cache_queries"], figures["image_cache_hits"]) == (3, 1)
    assert figures["image_cache_bytes"] == 2 * one > 0


def test_one_picture_asked_for_by_many_at_once_is_encoded_once(engine: OpenVinoEngine) -> None:
    answers = [collect(stream)[0] for stream in engine.generate([shown(5)] * 6)]
    assert len(set(answers)) == 1
    per_image = engine.figures()["image_cache_bytes"]
    text(engine, shown(6))
    assert engine.figures()["image_cache_bytes"] == 2 * per_image


def test_the_second_turn_finds_the_first(engine: OpenVinoEngine) -> None:
    first = shown(1)
    answer = text(engine, first)
    before = engine.figures()
    assert before["prefix_cache_queries"] > 32 and before["prefix_cache_hits"] == 0
    turns = (*first.conversation.turns, assistant(answer), user("Sure?"))
    text(engine, Request(Conversation(turns), first.images, GREEDY))
    after = engine.figures()
    asked = after["prefix_cache_queries"] - before["prefix_cache_queries"]
    assert after["prefix_cache_hits"] >= before["prefix_cache_queries"] - 32
    assert after["prefix_cache_hits"] < asked
    assert after["kv_cache_usage"] == 0 and after["restarts"] == 0


def test_leaving_before_the_picture_is_encoded_harms_nobody(engine: OpenVinoEngine) -> None:
    expected = text(engine, shown(2))
    for seed in range(10, 16):
        gone, stays = engine.generate([shown(seed), shown(seed)])
        gone.cancel()
        assert collect(gone)[1].finish == "cancelled"
        assert collect(stays)[1].finish in ("stop", "length")
    (alone,) = engine.generate([shown(20)])
    alone.cancel()
    assert text(engine, shown(2)) == expected


def test_a_cancelled_answer_frees_its_room_within_a_step(engine: OpenVinoEngine) -> None:
    long = replace(GREEDY, max_tokens=400)
    (stream,) = engine.generate([replace(shown(3), sampling=long)])
    chunks = iter(stream)
    next(chunks)
    assert engine.figures()["kv_cache_usage"] > 0
    stream.cancel()
    began = time.monotonic()
    text(engine, replace(shown(4), sampling=replace(GREEDY, max_tokens=1)))
    assert time.monotonic() - began < 60
    assert engine.figures()["kv_cache_usage"] == 0


@pytest.mark.parametrize("precision", ["bf16", "int4", "int4-fast", "int8-fast"])
def test_every_precision_answers(tiny: Path, precision: str) -> None:
    opened = open_engine(tiny, precision=precision)
    assert isinstance(opened, OpenVinoEngine)
    assert opened.info.precision == precision
    assert opened.info.reproducible == (precision == "int4")
    assert len(text(opened, shown(0))) > 3
    opened.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", ["int8", "fp32", "int4"])
@pytest.mark.parametrize("crowd", [8, 32])
def test_same_seed_same_text_a_hundred_times(tiny: Path, precision: str, crowd: int) -> None:
    """Every round other neighbours, in another order, of other lengths, joining at other times."""
    opened = open_engine(tiny, precision=precision)
    assert isinstance(opened, OpenVinoEngine) and opened.info.reproducible

    def drawn(seed: int, tokens: int) -> Request:
        sampling = Sampling(temperature=1.0, top_p=0.9, max_tokens=tokens, seed=seed)
        return Request(ask("What is this?"), (picture(seed % 3),), sampling)

    expected = text(opened, drawn(7, 24))
    rng = np.random.default_rng(crowd)
    for repeat in range(100):
        others = [drawn(1000 * repeat + n, int(rng.integers(4, 40))) for n in range(1, crowd)]
        place = int(rng.integers(crowd))
        before = opened.generate(others[:place])
        if repeat % 2:
            time.sleep(float(rng.random()) / 50)
        (watched,) = opened.generate([drawn(7, 24)])
        after = opened.generate(others[place:])
        assert collect(watched)[0] == expected, f"round {repeat}"
        for stream in (*before, *after):
            assert collect(stream)[1].finish in ("stop", "length")
    opened.close()
