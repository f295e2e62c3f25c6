"""The answer on its way: engines push chunks from their thread, callers iterate or listen."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition

from neva.engine.protocol import Chunk

_log = logging.getLogger("neva.engine")


class ChunkStream:
    """A `Stream` (see protocol.py). The engine pushes, up to a chunk with `finish`."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._changed = Condition()
        self._waiting: deque[Chunk] = deque()
        self._heard: Callable[[Chunk], None] | None = None
        self._ended = False

    def push(self, chunk: Chunk) -> None:
        """Give the next chunk; ignored after the last one."""
        with self._changed:
            if self._ended:
                return
            self._ended = chunk.finish is not None
            if self._heard is None:
                self._waiting.append(chunk)
                self._changed.notify_all()
            else:
                self._tell(chunk)

    def listen(self, heard: Callable[[Chunk], None]) -> None:
        """Call `heard` with every chunk, those that came already first."""
        with self._changed:
            self._heard = heard
            while self._waiting:
                self._tell(self._waiting.popleft())

    def __iter__(self) -> Iterator[Chunk]:
        """Wait for chunks until the one with `finish`."""
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                chunk = self._waiting.popleft()
            yield chunk
            if chunk.finish is not None:
                return

    def cancel(self) -> None:
        """Stop; the stream ends with finish "cancelled" unless it has ended already."""
        self._cancel()

    def _tell(self, chunk: Chunk) -> None:
        """A listener's fault must not take the engine's thread, and with it all others, down."""
        try:
            if self._heard is not None:
                self._heard(chunk)
        except Exception:
            _log.exception("a listener failed; its answer is cancelled")
            self._heard = lambda chunk: None
            self._cancel()
