"""NVCF's way of waiting: 202 and a request id to ask again, only for clients that ask for it.

A client that sends `NVCF-POLL-SECONDS` gets its answer within that time or 202; it then asks
`GET /v2/nvcf/pexec/status/{id}`. An answer is given once, and forgotten five minutes after it came.
Its tokens are in the log line of the request that got it, or in one of their own if none did. While
it is made it holds its key's place, as if its client had waited. Used from the event loop only.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from neva.server.errors import ApiError
from neva.server.porter import CLIENT_GONE
from neva.server.quota import AGAIN, Place
from neva.server.reply import told_of
from neva.server.shapes import ChatCompletion
from neva.server.sse import ClientGone, unless_gone

log = logging.getLogger("neva.server")

HEADER = "nvcf-poll-seconds"
LONGEST = 1200
KEPT_SECONDS = 300.0
MOST = 256

Body = dict[str, Any]


def poll_seconds(http: Request) -> int | None:
    """How long the client wants to wait; None if it did not say. ApiError 400 for nonsense."""
    said = http.headers.get(HEADER)
    if said is None:
        return None
    if not said.isascii() or not said.isdigit() or len(said) > 6 or int(said) > LONGEST:
        raise ApiError(400, f"NVCF-POLL-SECONDS must be a whole number from 0 to {LONGEST}")
    return int(said)


@dataclass(frozen=True)
class _Polled:
    """One answer: the request that asked for it, who makes it, what the log shall know of it."""

    request_id: str
    task: asyncio.Task[Body]
    told: dict[str, Any]


class Polls:
    """Answers that are being made for clients who will come back, each kept `kept` seconds.

    One key may have `most` of them, made and not fetched ones together.
    """

    def __init__(self, kept: float = KEPT_SECONDS, most: int = MOST) -> None:
        self._kept = kept
        self._most = most
        self._answers: dict[tuple[str, str], _Polled] = {}

    async def begin(
        self, http: Request, work: Callable[[Body], Coroutine[Any, Any, Body]], seconds: int
    ) -> Response:
        """Start an answer and wait for it for `seconds`; `work` puts what to log into its dict.

        ApiError 429 for a key that has too many.
        """
        place, told = (http.state.owner, str(uuid.uuid4())), dict[str, Any]()
        if sum(owner == place[0] for owner, _ in self._answers) >= self._most:
            raise ApiError(
                429,
                f"this key has {self._most} answers under way or to be fetched; fetch them first",
                headers={"Retry-After": "1"},
            )
        keys: Place = http.state.place
        keys.hold()
        task = asyncio.ensure_future(work(told))
        task.add_done_callback(lambda _: keys.leave())
        self._answers[place] = _Polled(http.state.request_id, task, told)
        loop = asyncio.get_running_loop()
        task.add_done_callback(lambda _: loop.call_later(self._kept, self._forget, place))
        return await self.collect(http, place[1], seconds)

    def _forget(self, place: tuple[str, str]) -> None:
        """Nobody came for it."""
        polled = self._answers.pop(place, None)
        if polled is not None and not polled.task.cancelled():
            polled.task.exception()  # seen, so that asyncio does not complain about it
            about = {"request_id": polled.request_id, "owner": place[0], **polled.told}
            log.info("answer never asked for again", extra=about)

    async def collect(self, http: Request, name: str, seconds: int) -> Response:
        """The answer, its error, or 202 after `seconds`; ApiError 404 when it is not there."""
        place = (http.state.owner, name)
        polled = self._answers.get(place)
        if polled is None:
            raise ApiError(404, f"request {name[:40]!r} is not there; it may have been answered")
        await asyncio.wait({polled.task}, timeout=seconds)
        if not polled.task.done():
            headers = {"NVCF-REQID": name, "NVCF-STATUS": "pending-evaluation"}
            return Response(status_code=202, headers=headers)
        if self._answers.pop(place, None) is not None:  # two may have waited for it
            told_of(http).update(polled.told)
        body = polled.task.result()
        return JSONResponse(body, headers={"NVCF-REQID": name, "NVCF-STATUS": "fulfilled"})

    async def close(self) -> None:
        """Give up what is still being made."""
        tasks = [polled.task for polled in self._answers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def poll_routes(polls: Polls) -> APIRouter:
    """Asking again."""
    router = APIRouter(tags=["Multimodal API"])
    pending: dict[int | str, dict[str, Any]] = {
        200: {"model": ChatCompletion, "description": "The answer"},
        202: {"description": "Not yet; ask again"},
    }

    @router.get(
        AGAIN + "{name}",
        summary="An answer that was not ready in time",
        responses=pending,
    )
    async def status(name: str, http: Request) -> Response:
        collected = polls.collect(http, name, poll_seconds(http) or 0)
        try:
            return await unless_gone(http.receive, collected)
        except ClientGone:
            return Response(status_code=CLIENT_GONE)

    return router
