"""One asked question -> one HTTP response, whole or streamed: what both chat routes do alike."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from neva.engine.protocol import Chunk, Request, Sampling
from neva.errors import EngineError
from neva.server.completion import SORRY, Completion
from neva.server.content import Said
from neva.server.desk import Desk
from neva.server.sse import ClientGone, EventStream, unless_gone

CLIENT_GONE = 499
SEEDS = 2**63


@dataclass(frozen=True)
class Asked:
    """What the body asked for, in the house's own words."""

    said: Callable[[], Said]
    """Reads the conversation and its images; runs in a reading thread."""
    sampling: Sampling
    model: str
    choices: int = 1
    stream: bool = False
    include_usage: bool = False

    def requests(self) -> Sequence[Request]:
        """One engine request per choice; each has a seed of its own."""
        said = self.said()
        return [
            Request(
                said.conversation,
                said.images,
                replace(self.sampling, seed=(self.sampling.seed + choice) % SEEDS),
            )
            for choice in range(self.choices)
        ]


async def _begun(heard: AsyncIterator[tuple[int, Chunk]]) -> AsyncIterator[tuple[int, Chunk]]:
    """`heard` once its first chunk is here; EngineError if that is the engine's failure.

    So an error before the first word is a status, not a stream.
    """
    first = await anext(heard)
    if first[1].finish == "error":
        raise EngineError(first[1].error or SORRY)

    async def again() -> AsyncIterator[tuple[int, Chunk]]:
        yield first
        async for item in heard:
            yield item

    return again()


def fingerprint(desk: Desk) -> str:
    """What really answers, for OpenAI's `system_fingerprint`."""
    info = desk.info
    return f"{info.name}-{info.engine}-{info.precision}"


async def reply(http: HttpRequest, desk: Desk, asked: Asked) -> Response:
    """Answer; ApiError or NevaError for what cannot be answered."""
    completion = Completion(asked.model, fingerprint(desk))
    headers = {"nvcf-reqid": http.state.request_id, "nvcf-status": "fulfilled"}
    stack = AsyncExitStack()

    async def start() -> Response:
        heard = await stack.enter_async_context(desk.answers(asked.choices, asked.requests))
        if not asked.stream:
            return JSONResponse(await completion.whole(heard, asked.choices), headers=headers)
        events = completion.events(await _begun(heard), asked.choices, asked.include_usage)
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
