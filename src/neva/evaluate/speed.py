"""How fast an engine or a server answers: a closed loop of N requests, timed from outside.

Times are wall seconds as a caller sees them: ttft from sending to the first text; itl, the mean gap
between tokens of one answer; total to the last chunk. What a caller does before sending, making a
PNG of its picture, is done before the clock starts. Work is the same for every engine: pictures
made from seeds, one question, greedy, cut after max_tokens.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np

from neva.engine.protocol import Chunk, Engine, Request, Sampling
from neva.engine.remote import RemoteEngine
from neva.errors import EngineError
from neva.images import RGBImage, from_pixels
from neva.prompts import Conversation, ask, assistant, user

QUESTION = "Describe this picture."
ANSWER = "A picture."
AGAIN = "Tell me more about it."
SHARES = (50, 95, 99)


@dataclass
class Timing:
    """One answer as it came; times are `perf_counter` seconds, `told` that tokens were counted."""

    sent: float
    first: float | None = None
    ended: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    tokens: int = 0
    told: bool = False
    error: str | None = None

    @property
    def ttft(self) -> float:
        """Seconds to the first text (to the end, where there was no text)."""
        return (self.ended if self.first is None else self.first) - self.sent

    @property
    def itl(self) -> float | None:
        """Mean seconds between tokens, None for fewer than two."""
        if self.first is None or self.tokens < 2:
            return None
        return (self.ended - self.first) / (self.tokens - 1)


@dataclass
class Ear:
    """Time one stream's chunks on the engine's thread; report when it has ended."""

    timing: Timing
    done: SimpleQueue[Timing] = field(repr=False)

    def __call__(self, chunk: Chunk) -> None:
        """Hear one chunk."""
        now = time.perf_counter()
        if chunk.text and self.timing.first is None:
            self.timing.first = now
        if chunk.finish is None:
            return
        self.timing.ended = now
        if chunk.usage is not None:
            self.timing.prompt_tokens = chunk.usage.prompt_tokens
            self.timing.cached_tokens = chunk.usage.cached_tokens
            self.timing.tokens = chunk.usage.completion_tokens
            self.timing.told = chunk.usage.prompt_tokens + chunk.usage.completion_tokens > 0
        if chunk.finish in ("error", "cancelled"):
            self.timing.error = chunk.error or chunk.finish
        self.done.put(self.timing)


def measure(engine: Engine, requests: Sequence[Request], concurrency: int) -> list[Timing]:
    """Answer all requests with `concurrency` under way; EngineError when one fails."""
    if isinstance(engine, RemoteEngine):
        engine.prepare(requests)
    done: SimpleQueue[Timing] = SimpleQueue()
    waiting = iter(requests)
    timings: list[Timing] = []

    def send() -> None:
        request = next(waiting, None)
        if request is not None:
            timing = Timing(time.perf_counter())
            engine.generate([request])[0].listen(Ear(timing, done))

    for _ in range(min(concurrency, len(requests))):
        send()
    while len(timings) < len(requests):
        timing = done.get()
        if timing.error is not None:
            raise EngineError(f"a request of the benchmark failed: {timing.error}")
        timings.append(timing)
        send()
    return timings


def picture(seed: int, width: int, height: int) -> RGBImage:
    """A picture that no cache has seen: coarse coloured noise, so that it is not all high notes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    rows, columns = -(-height // 8), -(-width // 8)
    large = coarse.repeat(rows, axis=0).repeat(columns, axis=1)
    return from_pixels(np.ascontiguousarray(large[:height, :width]))


@dataclass(frozen=True)
class Work:
    """What is asked: pictures of this size, answers of this length; `seed` makes fresh pictures."""

    width: int = 640
    height: int = 480
    max_tokens: int = 64
    seed: int = 0

    def new_image(self, count: int) -> list[Request]:
        """Every request with a picture of its own."""
        return [self.request(self.seed + index) for index in range(count)]

    def same_image(self, count: int) -> list[Request]:
        """All requests about one picture that was seen before (by the caller's warm-up)."""
        return [self.request(self.seed) for _ in range(count)]

    def second_turn(self, count: int) -> list[Request]:
        """A second question after an answer about the seen picture."""
        first = ask(QUESTION).turns
        conversation = Conversation((*first, assistant(ANSWER), user(AGAIN)))
        return [self.request(self.seed, conversation) for _ in range(count)]

    def text(self, count: int) -> list[Request]:
        """No picture."""
        return [Request(ask(AGAIN, images=0), (), self.sampling) for _ in range(count)]

    def request(self, seed: int, conversation: Conversation | None = None) -> Request:
        """One request about the picture of `seed`."""
        image = picture(seed, self.width, self.height)
        return Request(conversation or ask(QUESTION), (image,), self.sampling)

    @property
    def sampling(self) -> Sampling:
        """Greedy, cut after `max_tokens`."""
        return Sampling(temperature=0.0, max_tokens=self.max_tokens)


SCENARIOS: Mapping[str, Callable[[Work, int], list[Request]]] = {
    "new-image": Work.new_image,
    "same-image": Work.same_image,
    "second-turn": Work.second_turn,
    "text": Work.text,
}


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles in milliseconds; empty of nothing."""
    if not values:
        return {}
    found = {f"p{share}": float(np.percentile(values, share)) for share in SHARES}
    return {
        name: round(1000 * value, 3)
        for name, value in ({"mean": float(np.mean(values))} | found).items()
    }


def summary(timings: Sequence[Timing]) -> dict[str, object]:
    """The figures of one scenario at one concurrency; None for what was not told."""
    wall = max(one.ended for one in timings) - min(one.sent for one in timings)
    told = all(one.told for one in timings)
    tokens = sum(one.tokens for one in timings)
    cached = [one.cached_tokens for one in timings if one.cached_tokens is not None]
    return {
        "requests": len(timings),
        "seconds": round(wall, 4),
        "requests_per_s": round(len(timings) / wall, 3),
        "tokens_per_s": round(tokens / wall, 2) if told else None,
        "completion_tokens": tokens if told else None,
        "prompt_tokens": sum(one.prompt_tokens for one in timings) if told else None,
        "cached_tokens": sum(cached) if cached else None,  # None: it cannot tell
        "ttft_ms": spread_of([one.ttft for one in timings]),
        "itl_ms": spread_of([one.itl for one in timings if one.itl is not None]),
        "total_ms": spread_of([one.ended - one.sent for one in timings]),
    }


def benchmark(
    engine: Engine, work: Work, scenario: str, concurrency: int, requests: int
) -> dict[str, object]:
    """Warm up with the scenario's seen picture, then measure.

    Fresh pictures start beyond those of every other scenario and concurrency, so that "new" is new.
    """
    measure(engine, work.same_image(1), 1)
    offset = 1 + 1_000_003 * concurrency if scenario == "new-image" else 0
    fresh = Work(work.width, work.height, work.max_tokens, work.seed + offset)
    asked = SCENARIOS[scenario](fresh, requests)
    figures = summary(measure(engine, asked, concurrency))
    return {"scenario": scenario, "concurrency": concurrency, **figures}
