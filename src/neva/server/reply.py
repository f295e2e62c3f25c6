"""One asked question -> one HTTP response, whole or streamed: what all chat routes do alike."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from neva.engine.protocol import Request, Sampling
from neva.server.completion import Heard, failure
from neva.server.content import Said
from neva.server.desk import Desk
from neva.server.porter import CLIENT_GONE
from neva.server.schemas import OutputFormat, ResponseFormat, grammar_of
from neva.server.sse import ClientGone, EventStream, unless_gone

SEEDS = 2**63


@dataclass(frozen=True)
class Asked:
    """What the body asked for, in the house's own words."""

    said: Callable[[], Said]
    """Reads the conversation and its images; runs in a reading thread."""
    sampling: Sampling
    choices: int = 1
    stream: bool = False

    def requests(self) -> Sequence[Request]:
        """One engine request per choice; each has a seed of its own."""
        said = self.said()
        return [
            Request(
                said.conversation,
                said.images,
                replace(self.sampling, seed=(self.sampling.seed + choice) % SEEDS),
                said.owner,
            )
            for choice in range(self.choices)
        ]


class Shape(Protocol):
    """How a route dresses what is heard: as one JSON object, or as server-sent events."""

    async def whole(self, heard: Heard) -> dict[str, Any]:
        """The body; EngineError if the engine failed."""
        ...

    def events(self, heard: Heard) -> AsyncIterator[bytes]:
        """The events."""
        ...


async def _begun(heard: Heard) -> Heard:
    """`heard` once its first chunk is here; NevaError if that is a failure.

    So an error before the first word is a status, not a stream.
    """
    first = await anext(heard)
    if first[1].finish == "error":
        raise failure(first[1])

    async def again() -> Heard:
        yield first
        async for item in heard:
            yield item

    return again()


def fingerprint(desk: Desk) -> str:
    """What really answers, for OpenAI's `system_fingerprint`."""
    info = desk.info
    return f"{info.name}-{info.engine}-{info.precision}"


async def grammar_read(desk: Desk, form: ResponseFormat | OutputFormat | None) -> str | None:
    """The grammar of a format; SchemaError (400). A schema is read in a reading thread."""
    return None if form is None else await desk.read(lambda: grammar_of(form))


async def whole(
    desk: Desk, asked: Asked, shape: Shape, told: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The whole answer, whether or not the client waits for it; `told` as in `Desk.answers`."""
    async with desk.answers(asked.choices, asked.requests, told) as heard:
        return await shape.whole(heard)


def told_of(http: HttpRequest) -> dict[str, Any]:
    """What the log line of this request tells of its answer."""
    told: dict[str, Any] = http.scope["state"].setdefault("told", {})
    return told


async def reply(http: HttpRequest, desk: Desk, asked: Asked, shape: Shape) -> Response:
    """Answer; ApiError or NevaError for what cannot be answered."""
    headers = {"nvcf-reqid": http.state.request_id, "nvcf-status": "fulfilled"}
    stack = AsyncExitStack()
    told = told_of(http)

    async def start() -> Response:
        answers = desk.answers(asked.choices, asked.requests, told)
        heard = await stack.enter_async_context(answers)
        if not asked.stream:
            return JSONResponse(await shape.whole(heard), headers=headers)
        events = shape.events(await _begun(heard))
        return EventStream(events, stack.aclose, headers, desk.settings.limits.send_seconds)

    streaming = False
    try:
        response = await unless_gone(http.receive, start())
        streaming = isinstance(response, EventStream)
        return response
    except ClientGone:
        return Response(status_code=CLIENT_GONE)
    finally:
        if not streaming:
            await stack.aclose()
