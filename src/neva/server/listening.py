"""From the engine's threads to the event loop: several streams heard as one, in bounded memory.

A client that reads slowly makes chunks grow, not the queue: what is not yet fetched of one answer
is held as a single chunk.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

from neva.engine.protocol import Chunk, Stream


def joined(first: Chunk, second: Chunk) -> Chunk:
    """Two chunks that follow each other, as one."""
    logprobs = first.logprobs + second.logprobs
    text = first.text + second.text
    return replace(second, text=text, logprobs=logprobs)


class Listener:
    """Hears `streams`; iterate once over (index of the stream, chunk) until all have finished.

    Make it on the event loop. `cancel` ends every stream that is still running.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._lock = threading.Lock()
        self._held: dict[int, Chunk] = {}
        self._open = set(range(len(streams)))
        for index, stream in enumerate(streams):
            stream.listen(partial(self._heard, index))

    def _heard(self, index: int, chunk: Chunk) -> None:
        """Called by the engine's thread."""
        with self._lock:
            asleep = not self._held
            before = self._held.get(index)
            self._held[index] = joined(before, chunk) if before else chunk
        if asleep:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._arrived.set)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Chunk]]:
        """Chunks as they arrive."""
        while self._open:
            await self._arrived.wait()
            self._arrived.clear()
            with self._lock:
                held, self._held = self._held, {}
            for index, chunk in held.items():
                if chunk.finish is not None:
                    self._open.discard(index)
                yield index, chunk

    def last(self, index: int) -> Chunk | None:
        """The end of a stream that was cancelled, if its engine has told it already."""
        with self._lock:
            held = self._held.get(index)
        return held if held is not None and held.finish is not None else None

    def cancel(self) -> None:
        """Stop what still runs. Safe to call late."""
        for index in self._open:
            self._streams[index].cancel()
