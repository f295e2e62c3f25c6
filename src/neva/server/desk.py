"""The desk between HTTP and the engine: a place, images read off the event loop, answers heard.

Holds the engine, which may still be loading, and what all routes share.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from threading import Thread
from typing import Any, TypeVar

from neva.engine.protocol import Chunk, Engine, EngineInfo, Request, Stream
from neva.server.errors import ApiError
from neva.server.fetching import Fetching, Unfetched
from neva.server.limits import Admission
from neva.server.listening import Listener
from neva.server.metrics import Metrics
from neva.server.settings import Settings
from neva.server.stopwatch import Stopwatch
from neva.server.tracing import UNDER_WAY
from neva.server.version import release

T = TypeVar("T")
OpenEngine = Callable[[], Engine]
LEAVING = "the server is shutting down"
ABLE_SECONDS = 2.0
LOADING = EngineInfo("loading", "none", "none", 0, 0, reproducible=False)
"""What the metrics tell of before the engine is open."""


class Desk:
    """One server's engine, admission and reading threads."""

    def __init__(self, engine: Engine | OpenEngine, settings: Settings) -> None:
        self.settings = settings
        self.admission = Admission(settings.limits)
        self._source = engine
        self._engine: Engine | None = None if callable(engine) else engine
        self._metrics: Metrics | None = None
        self.failure: str | None = None
        self.draining = False
        self._hurried = False
        self._heard: set[Listener] = set()
        self._able: tuple[float, asyncio.Task[bool]] | None = None
        self._readers = ThreadPoolExecutor(settings.readers, thread_name_prefix="neva-reader")
        # Half of the places at most wait for hosts; the rest is for who brings the pictures along.
        self._fetching = Fetching(max(1, settings.limits.running // 2))

    async def open(self) -> None:
        """Load the engine, if it was given as something to load; NevaError passes through."""
        if self._engine is None and callable(self._source):
            try:
                self._engine = await abandonable(self._source)
            except Exception as error:
                self.failure = str(error)
                raise

    async def close(self) -> None:
        """Free the engine and the threads."""
        self.draining = True
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._fetching.close()
        if self._engine is not None and callable(self._source):
            await asyncio.to_thread(self._engine.close)

    @property
    def ready(self) -> bool:
        """Can a request be answered now?"""
        return self._engine is not None and not self.draining

    async def able(self) -> bool:
        """Ready, and so is what the engine itself depends on, where it can tell (`Engine.able`).

        That is asked every ABLE_SECONDS at most, however often we are.
        """
        ask: Callable[[], bool] | None = getattr(self._engine, "able", None)
        if not self.ready or ask is None:
            return self.ready
        now = time.monotonic()
        if self._able is None or (self._able[1].done() and now - self._able[0] > ABLE_SECONDS):
            self._able = now, asyncio.create_task(asyncio.to_thread(ask))
        return await asyncio.shield(self._able[1])

    def hurry(self) -> None:
        """The server ends soon: answers under way end with what they have, no other is begun."""
        self._hurried = True
        for listener in tuple(self._heard):
            listener.cancel()

    @property
    def engine(self) -> Engine:
        """The engine; ApiError 503 while it loads or when it failed to."""
        if self._engine is None or self.draining:
            why = LEAVING if self.draining else "the server is still loading the model"
            if self.failure:
                why = "the server could not load the model; its log tells why"
            raise ApiError(503, why, headers={"Retry-After": "2"})
        return self._engine

    @property
    def info(self) -> EngineInfo:
        """What is served."""
        return self.engine.info

    @property
    def metrics(self) -> Metrics:
        """The metrics, made when the model's name is known."""
        if self._metrics is None:
            info = self._engine.info if self._engine else LOADING
            metrics = Metrics(info, self.settings.limits.running, release())
            metrics.watch(
                lambda: self.admission.running, lambda: self.admission.waiting, self.figures
            )
            if self._engine is None:
                return metrics
            self._metrics = metrics
        return self._metrics

    def figures(self) -> Mapping[str, float]:
        """The engine's own figures, of its caches; none where it keeps none."""
        keep: Callable[[], Mapping[str, float]] | None = getattr(self._engine, "figures", None)
        return keep() if keep is not None else {}

    def answered(self, route: str, status: int) -> None:
        """Count an HTTP response, of whatever kind."""
        if self._engine is not None:
            self.metrics.answered(route, status)

    async def read(self, work: Callable[[], T]) -> T:
        """Do `work` in a reading thread."""
        told = copy_context().run  # so that what is logged has its request's id
        return await asyncio.get_running_loop().run_in_executor(self._readers, told, work)

    @asynccontextmanager
    async def answers(
        self,
        choices: int,
        prepare: Callable[[], Sequence[Request]],
        told: dict[str, Any] | None = None,
    ) -> AsyncIterator[AsyncIterator[tuple[int, Chunk]]]:
        """The `choices` answers to what `prepare` makes (in a reading thread), under way.

        `told` gets what the log shall know of them.

        Leaving the context cancels what still runs. ApiError 429 when there is no place, 503 when
        none came free in time; NevaError for a request that can never be answered.
        """
        engine, limits = self.engine, self.settings.limits
        log = {} if told is None else told
        name, trace = engine.info.name, UNDER_WAY.get()
        watches = [Stopwatch(self.metrics, log, name) for _ in range(choices)]
        asked = time.monotonic()
        try:
            place = self.admission.place(choices)
            async with place:
                self.metrics.queued(time.monotonic() - asked)
                trace.stage("queue", asked, time.monotonic())
                if self._hurried:
                    raise ApiError(503, LEAVING, headers={"Retry-After": "2"})
                listener = Listener(await self._start(engine, prepare, watches))
                self._heard.add(listener)
                if self._hurried:
                    listener.cancel()
                loop = asyncio.get_running_loop()
                alarm = loop.call_later(limits.answer_seconds, listener.cancel)
                try:
                    yield _watched(listener, watches)
                finally:
                    alarm.cancel()
                    self._heard.discard(listener)
                    listener.cancel()
                    for index, watch in enumerate(watches):
                        watch.left(listener.last(index))
        except ApiError as error:
            if error.status_code == 429:
                self.metrics.refused()
            raise

    async def _start(
        self,
        engine: Engine,
        prepare: Callable[[], Sequence[Request]],
        watches: Sequence[Stopwatch],
    ) -> list[Stream]:
        """Read and hand over, in one go: no more requests than readers hold decoded images.

        What is to be fetched is fetched in between, then read from the beginning. If we are
        cancelled meanwhile, the engine's streams are too.
        """

        def work() -> list[Stream]:
            began = time.monotonic()
            requests = prepare()
            if images := len(requests[0].images):
                metrics.read(images, time.monotonic() - began)
                trace.stage("image decode", began, time.monotonic(), images=images)
            for watch in watches:
                watch.begun()
            return engine.generate(requests)

        metrics, trace = self.metrics, UNDER_WAY.get()
        while True:
            told = copy_context().run
            started = asyncio.get_running_loop().run_in_executor(self._readers, told, work)
            try:
                return await asyncio.shield(started)
            except Unfetched as pictures:
                fetch = pictures.fetch
            except asyncio.CancelledError:
                started.add_done_callback(_cancel_streams)
                raise
            await self._fetching.do(fetch)


async def abandonable(open_engine: OpenEngine) -> Engine:
    """The engine, opened in a thread that a server which ends does not wait for."""
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[Engine] = loop.create_future()

    def tell(engine: Engine | None, error: BaseException | None) -> None:
        if error is not None and not opened.done():
            opened.set_exception(error)
        elif engine is not None and not opened.done():
            opened.set_result(engine)
        elif engine is not None:  # nobody waits for it any more
            engine.close()

    def work() -> None:
        engine, error = None, None
        try:
            engine = open_engine()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended, and the process with it
            loop.call_soon_threadsafe(tell, engine, error)

    Thread(target=work, name="neva-engine", daemon=True).start()
    return await opened


def _cancel_streams(started: "asyncio.Future[list[Stream]]") -> None:
    """Cancel streams that were made for a client who had already left."""
    if not started.cancelled() and started.exception() is None:
        for stream in started.result():
            stream.cancel()


async def _watched(
    listener: Listener, watches: Sequence[Stopwatch]
) -> AsyncIterator[tuple[int, Chunk]]:
    """The listener's chunks, timed."""
    async for index, chunk in listener:
        watches[index].heard(chunk)
        yield index, chunk
