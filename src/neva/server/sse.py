"""Server-sent events by the rules that keep every known client alive, and no longer than needed.

`data: {one line of JSON}\n\n`, at the end `data: [DONE]\n\n`, never a comment line, of
which llama-index dies. When the client leaves or stops reading, its answer is cancelled.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
DONE = b"data: [DONE]\n\n"
_encode = json.JSONEncoder(separators=(",", ":")).encode


class ClientGone(Exception):
    """The client closed its connection before the answer was ready."""


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """One event, in ASCII: clients that split lines at U+2028 or U+0085 see none in it."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {_encode(data)}\n\n".encode("ascii")


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled, and ClientGone raised, if the client leaves."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class EventStream(Response):
    """A response of `events`; `close` is awaited however it ends, also when the client leaves."""

    media_type = "text/event-stream"
    charset = "utf-8"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        close: Callable[[], Awaitable[None]],
        headers: Mapping[str, str] | None = None,
        send_seconds: float = 30.0,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self._close = close
        self._send_seconds = send_seconds
        self.init_headers(
            {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client leaves."""
        try:
            await unless_gone(receive, self._send(send))
        except (ClientGone, OSError, TimeoutError):
            pass  # nobody is left to tell
        finally:
            await self._close()

    async def _send(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as patience:  # one for all: a token is worth 10 us
            async for data in self._events:
                patience.reschedule(loop.time() + self._send_seconds)
                await send({"type": "http.response.body", "body": data, "more_body": True})
                patience.reschedule(None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
