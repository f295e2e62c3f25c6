"""What the door lets in: bodies up to a size and a time, and answers up to a number.

More work than the machine can do is refused at once with 429, so that the accepted requests stay
quick; a queue without an end only turns overload into timeouts.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Message, Receive, Scope

from neva.server.errors import ApiError
from neva.server.settings import Limits


def check_messages(count: int, limits: Limits) -> None:
    """ApiError 422 for a conversation of too many messages."""
    if count > limits.messages:
        raise ApiError(422, f"messages: at most {limits.messages} are taken", "messages")


def check_most(name: str, value: int | None, most: int) -> None:
    """ApiError 422 for a number beyond what the operator allows."""
    if value is not None and value > most:
        raise ApiError(422, f"{name}: Input should be less than or equal to {most}", name)


def declared_length(scope: Scope) -> int | None:
    """The Content-Length header of a request, if it has a usable one."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else None
    return None


def too_large(limit: int) -> ApiError:
    """413 with the limit in it."""
    return ApiError(413, f"the request body is larger than {limit:,} bytes; send a smaller image")


def bounded(receive: Receive, limit: int, seconds: float) -> Receive:
    """`receive`, but 413 beyond `limit` bytes and 408 when the body takes longer than `seconds`."""
    got, done, deadline = 0, False, time.monotonic() + seconds

    async def bounded_receive() -> Message:
        nonlocal got, done
        if done:  # from here on only the client's leaving can come, however late
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise ApiError(408, f"the request body took longer than {seconds:g} seconds") from None
        if message["type"] == "http.request":
            got += len(message.get("body", b""))
            done = not message.get("more_body", False)
        if got > limit:
            raise too_large(limit)
        return message

    return bounded_receive


class Admission:
    """Places for answers: `running` in the engine, `waiting` in line, and no more.

    First come, first served: who needs several places is not overtaken by those who need one. Used
    from the event loop only.
    """

    def __init__(self, limits: Limits) -> None:
        self._places = limits.running
        self._line = limits.waiting
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def place(self, answers: int = 1) -> AsyncIterator[None]:
        """Hold places for `answers`; ApiError 429 if the line is full."""
        if answers > self._places:
            raise ApiError(422, f"n must be at most {self._places} on this server", "n")
        if self._queue or self.running + answers > self._places:
            if self.waiting + answers > self._line:
                raise ApiError(
                    429,
                    f"the server is busy: {self.running} answers running, {self.waiting} waiting; "
                    "try again in a moment",
                    headers={"Retry-After": "1"},
                )
            await self._turn(answers)
        else:
            self.running += answers
        try:
            yield
        finally:
            self.running -= answers
            self._admit()

    async def _turn(self, answers: int) -> None:
        """Wait in line until `answers` are running."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = answers, turn
        self._queue.append(waiting)
        self.waiting += answers
        try:
            await turn
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
                self.waiting -= answers
            else:  # its turn came at the same moment
                self.running -= answers
            self._admit()
            raise

    def _admit(self) -> None:
        """Give what is free to the first in line; one who has left it will say so itself."""
        while self._queue and self.running + self._queue[0][0] <= self._places:
            if self._queue[0][1].cancelled():
                return
            answers, turn = self._queue.popleft()
            self.waiting -= answers
            self.running += answers
            turn.set_result(None)
