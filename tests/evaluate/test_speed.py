"""The stopwatch: figures of an engine whose times are known."""

import time
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock, Thread
from typing import Any

import numpy as np
import pytest
from fake_server import DONE, event, fake

from neva.engine import remote
from neva.engine.protocol import Chunk, EngineInfo, Request, Stream, Usage
from neva.engine.remote import RemoteEngine
from neva.engine.stream import ChunkStream
from neva.errors import EngineError
from neva.evaluate.speed import SCENARIOS, Work, benchmark, measure, picture, summary
from neva.images import RGBImage

PREFILL_S, STEP_S, TOKENS = 0.05, 0.01, 5


class Metronome:
    """First token after PREFILL_S, then one every STEP_S."""

    info = EngineInfo("metronome", "metronome", "exact", 64, 4, True)
    usage = Usage(9, TOKENS)

    def __init__(self, error: str | None = None) -> None:
        self.lock, self.flying, self.most, self.error = Lock(), 0, 0, error
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        return [self.start(request) for request in requests]

    def start(self, request: Request) -> Stream:
        with self.lock:
            self.asked.append(request)
            self.flying += 1
            self.most = max(self.most, self.flying)
        stream = ChunkStream(lambda: None)
        Thread(target=self.work, args=(stream,), daemon=True).start()
        return stream

    def work(self, stream: ChunkStream) -> None:
        time.sleep(PREFILL_S)
        for _ in range(TOKENS - 1):
            stream.push(Chunk("x"))
            time.sleep(STEP_S)
        with self.lock:
            self.flying -= 1
        finish = "error" if self.error else "stop"
        stream.push(Chunk("x", finish, self.usage, self.error))

    def close(self) -> None:
        return None


def test_times_are_those_of_the_engine() -> None:
    timings = measure(Metronome(), Work().text(3), 1)
    for one in timings:
        assert PREFILL_S <= one.ttft < 2 * PREFILL_S
        assert one.itl is not None
        assert STEP_S <= one.itl < 3 * STEP_S
        assert (one.tokens, one.prompt_tokens) == (TOKENS, 9)
    figures = summary(timings)
    assert figures["completion_tokens"] == 3 * TOKENS
    assert figures["cached_tokens"] is None, "this engine cannot tell"
    figures = summary([replace(one, cached_tokens=4) for one in timings])
    assert figures["cached_tokens"] == 12
    rate = 3 * TOKENS / (timings[-1].ended - timings[0].sent)
    assert figures["tokens_per_s"] == pytest.approx(rate, rel=0.01)


def test_a_server_that_counts_no_tokens_has_no_rate() -> None:
    engine = Metronome()
    engine.usage = Usage(0, 0)
    figures = benchmark(engine, Work(), "text", 1, 2)
    assert {figures[name] for name in ("tokens_per_s", "completion_tokens", "prompt_tokens")} == {
        None
    }
    assert figures["itl_ms"] == {}
    assert figures["ttft_ms"]


def test_keeps_so_many_under_way() -> None:
    engine = Metronome()
    assert len(measure(engine, Work().text(8), 4)) == 8
    assert engine.most == 4
    assert len(engine.asked) == 8


def test_new_is_new_and_same_is_same() -> None:
    work = Work(32, 24, 4)
    engine = Metronome()
    for concurrency in (1, 2):
        benchmark(engine, work, "new-image", concurrency, 3)
    seen = work.request(0).images[0].digest
    fresh = [one.images[0].digest for one in engine.asked]
    assert fresh[0] == fresh[4] == seen  # the warm-ups
    assert len({*fresh}) == 7
    assert {one.images[0].digest for one in work.same_image(3) + work.second_turn(2)} == {seen}
    assert not any(one.images for one in SCENARIOS["text"](work, 2))
    assert len(work.second_turn(1)[0].conversation.turns) == 3


def test_pictures_have_their_size_and_repeat() -> None:
    assert picture(3, 33, 17).size == (33, 17)
    assert np.array_equal(picture(3, 33, 17).array, picture(3, 33, 17).array)
    assert picture(3, 33, 17).digest != picture(4, 33, 17).digest


def test_a_failed_request_fails_the_benchmark() -> None:
    with pytest.raises(EngineError, match="out of memory"):
        benchmark(Metronome("out of memory"), Work(), "text", 1, 2)


def test_our_own_png_encoder_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = remote.uri, []

    def slow(image: RGBImage) -> str:
        time.sleep(0.4)
        return real(image)

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        asked.append(body["messages"][0]["content"][0]["image_url"]["url"])
        return 200, event("x", "stop") + DONE

    monkeypatch.setattr(remote, "uri", slow)
    work = Work(32, 24, 4)
    with fake(answer) as address:
        engine = RemoteEngine(address)
        timings = measure(engine, work.new_image(2), 2)
        engine.close()
    assert max(one.ttft for one in timings) < 0.4
    assert sorted(asked) == sorted(real(work.request(seed).images[0]) for seed in (0, 1))
