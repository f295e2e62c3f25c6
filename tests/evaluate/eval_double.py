"""A small deterministic engine: answers by a function of the request, out of order, on threads."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from neva.engine.protocol import Chunk, EngineInfo, Request, Stream, Usage
from neva.engine.stream import ChunkStream
from neva.errors import NevaError

Reply = Callable[[Request], str]


class Double:
    """`reply` may raise: NevaError from `generate` at once, RuntimeError as a failed stream.

    `cached`: the tokens and images that it says it knew; None: it cannot tell.
    """

    info = EngineInfo("double", "double", "exact", 4096, 4, True)
    cached: tuple[int | None, int | None] = (None, None)

    def __init__(self, reply: Reply, refuses: Callable[[Request], bool] = lambda r: False) -> None:
        self.reply = reply
        self.refuses = refuses
        self.pool = ThreadPoolExecutor(8)
        self.lock = threading.Lock()
        self.flying = 0
        self.most = 0
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        return [self.start(request) for request in requests]

    def start(self, request: Request) -> Stream:
        if self.refuses(request):
            raise NevaError("the question is longer than the context.")
        with self.lock:
            self.asked.append(request)
            self.flying += 1
            self.most = max(self.most, self.flying)
            number = len(self.asked)
        stream = ChunkStream(lambda: None)
        self.pool.submit(self.work, stream, request, number)
        return stream

    def work(self, stream: ChunkStream, request: Request, number: int) -> None:
        time.sleep(random.Random(number).random() * 0.003)
        try:
            text = self.reply(request)
        except RuntimeError as error:
            self.land()
            stream.push(Chunk("", "error", Usage(1, 0), str(error)))
            return
        for letter in text:
            stream.push(Chunk(letter))
        self.land()
        stream.push(Chunk("", "stop", Usage(1, len(text), *self.cached)))

    def land(self) -> None:
        with self.lock:
            self.flying -= 1

    def close(self) -> None:
        self.pool.shutdown()


def words(request: Request) -> str:
    """The question as it was put."""
    return request.conversation.turns[-1].text
