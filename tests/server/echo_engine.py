"""A small honest engine for tests of the server: it says what it was given, word by word.

It keeps every promise of `neva.engine.protocol` (threads, cancelling, stop strings, max_tokens,
seeds), so the server cannot tell it from a real one; only its answers are dull.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from neva.engine.admission import check_able
from neva.engine.protocol import Chunk, EngineInfo, Request, Stream, Usage
from neva.errors import PromptError
from neva.prompts.conversation import ImageSlot

IMAGE_TOKENS = 49
FAILED = "the engine restarted; try again"


def heard_as(request: Request) -> str:
    """What the engine answers: every turn's parts, images by size and first pixel."""
    lines = [f"system={request.conversation.system!r}"]
    for turn in request.conversation.turns:
        parts = [
            f"[{request.images[part.index].size} {request.images[part.index].array[0, 0].tolist()}]"
            if isinstance(part, ImageSlot)
            else repr(part)
            for part in turn.parts
        ]
        labels = f" labels={dict(turn.labels)}" if turn.labels else ""
        lines.append(f"{turn.role}: {' '.join(parts)}{labels}")
    return " | ".join(lines) + f" | seed={request.sampling.seed}"


@dataclass
class EchoStream:
    """See `Stream`; made by a thread of its own."""

    request: Request
    pause: float
    fail_after: int | None = None
    cached: tuple[int | None, int | None] = (None, None)
    asker: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    said: list[Chunk] = field(default_factory=list)
    listener: Callable[[Chunk], None] | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        threading.Thread(target=self._speak, daemon=True).start()

    def _speak(self) -> None:
        words = [word + " " for word in heard_as(self.request).split(" ")]
        sampling, text, finish = self.request.sampling, "", "stop"
        for number, word in enumerate(words):
            if self.cancelled.wait(self.pause) if self.pause else self.cancelled.is_set():
                finish = "cancelled"
                break
            if number == self.fail_after:
                self._say(Chunk("", "error", self._usage(number), FAILED, asker=self.asker))
                return
            if number == sampling.max_tokens:
                finish = "length"
                break
            if any(stop in text + word for stop in sampling.stop):
                at = min((text + word).find(s) for s in sampling.stop if s in text + word)
                self._say(Chunk((text + word)[len(text) : at]))
                break
            text += word
            self._say(Chunk(word))
        self._say(Chunk("", finish, self._usage(len(text.split()))))

    def _usage(self, words: int) -> Usage:
        return Usage(10 + IMAGE_TOKENS * len(self.request.images), words, *self.cached)

    def _say(self, chunk: Chunk) -> None:
        with self.changed:
            if self.listener is not None:
                self.listener(chunk)
            self.said.append(chunk)
            self.changed.notify_all()
        if chunk.finish is not None:
            self.ended.set()

    def listen(self, heard: Callable[[Chunk], None]) -> None:
        with self.changed:
            for chunk in self.said:
                heard(chunk)
            self.listener = heard

    def __iter__(self) -> Iterator[Chunk]:
        place = 0
        while True:
            with self.changed:
                while len(self.said) <= place:
                    self.changed.wait()
                chunk = self.said[place]
            place += 1
            yield chunk
            if chunk.finish is not None:
                return

    def cancel(self) -> None:
        self.cancelled.set()


class EchoEngine:
    """See `Engine`. `streams` are all that were ever started.

    `cached`: the tokens and images that it says it knew; None: it cannot tell. `asker`: failures
    are the asker's fault.
    """

    cached: tuple[int | None, int | None] = (None, None)
    asker = False

    def __init__(self, pause: float = 0.0, fail_after: int | None = None, context: int = 4096):
        self.pause = pause
        self.fail_after = fail_after
        self.context = context
        self.streams: list[EchoStream] = []
        self.closed = False

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("echo", "echo", "fp32", self.context, IMAGE_TOKENS, reproducible=True)

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        for request in requests:
            check_able(request.sampling, self.info)
            if len(heard_as(request)) > 4 * self.context:
                raise PromptError("the prompt is longer than the context; shorten it")
        started: list[Stream] = []
        for request in requests:
            stream = EchoStream(request, self.pause, self.fail_after, self.cached, self.asker)
            self.streams.append(stream)
            started.append(stream)
        return started

    def figures(self) -> dict[str, float]:
        """Of caches that it does not have: an image is "known" when it was sent before."""
        seen = [image.digest for stream in self.streams for image in stream.request.images]
        tokens = sum(10 + IMAGE_TOKENS * len(s.request.images) for s in self.streams)
        return {
            "image_cache_queries": len(seen),
            "image_cache_hits": len(seen) - len(set(seen)),
            "prefix_cache_queries": tokens,
            "prefix_cache_hits": 0,
            "kv_cache_usage": 0.25,
            "restarts": 0,
        }

    def close(self) -> None:
        self.closed = True
        for stream in self.streams:
            stream.cancel()


class KnowingEngine(EchoEngine):
    """It says that it knew 6 of its 10 prompt tokens, and 1 image."""

    cached = (6, 1)


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether `true` becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.005)
    return true()
