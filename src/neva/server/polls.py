"""NVCF's way of waiting: 202 and a request id to ask again, only for clients that ask for it.

A client that sends `NVCF-POLL-SECONDS` gets its answer within that time or 202; it then asks
`GET /v2/nvcf/pexec/status/{id}`. An answer is given once, and forgotten five minutes after it came.
Used from the event loop only.
"""

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from neva.server.errors import ApiError

HEADER = "nvcf-poll-seconds"
LONGEST = 1200
KEPT_SECONDS = 300.0

Body = dict[str, Any]


def poll_seconds(http: Request) -> int | None:
    """How long the client wants to wait; None if it did not say. ApiError 400 for nonsense."""
    said = http.headers.get(HEADER)
    if said is None:
        return None
    if not said.isascii() or not said.isdigit() or len(said) > 6 or int(said) > LONGEST:
        raise ApiError(400, f"NVCF-POLL-SECONDS must be a whole number from 0 to {LONGEST}")
    return int(said)


class Polls:
    """Answers that are being made for clients who will come back."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], asyncio.Task[Body]] = {}

    async def begin(self, owner: str, work: Coroutine[Any, Any, Body], seconds: int) -> Response:
        """Start an answer and wait for it for `seconds`."""
        name = str(uuid.uuid4())
        self._answers[owner, name] = task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        forget = (owner, name)
        task.add_done_callback(lambda _: loop.call_later(KEPT_SECONDS, self._forget, forget))
        return await self.collect(owner, name, seconds)

    def _forget(self, place: tuple[str, str]) -> None:
        task = self._answers.pop(place, None)
        if task is not None and not task.cancelled():
            task.exception()  # seen, so that asyncio does not complain about it

    async def collect(self, owner: str, name: str, seconds: int) -> Response:
        """The answer, its error, or 202 after `seconds`; ApiError 404 when it is not there."""
        task = self._answers.get((owner, name))
        if task is None:
            raise ApiError(404, f"request {name[:40]!r} is not there; it may have been answered")
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            headers = {"NVCF-REQID": name, "NVCF-STATUS": "pending-evaluation"}
            return Response(status_code=202, headers=headers)
        self._answers.pop((owner, name), None)
        return JSONResponse(task.result(), headers={"NVCF-REQID": name, "NVCF-STATUS": "fulfilled"})

    async def close(self) -> None:
        """Give up what is still being made."""
        tasks = list(self._answers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def poll_routes(polls: Polls) -> APIRouter:
    """Asking again."""
    router = APIRouter(tags=["Multimodal API"])
    pending: dict[int | str, dict[str, Any]] = {202: {"description": "Not yet; ask again"}}

    @router.get(
        "/v2/nvcf/pexec/status/{name}",
        summary="An answer that was not ready in time",
        responses=pending,
    )
    async def status(name: str, http: Request) -> Response:
        return await polls.collect(http.state.owner, name, poll_seconds(http) or 0)

    return router
