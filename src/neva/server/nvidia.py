"""NVIDIA's hosted route, served here: `POST /v1/vlm/nvidia/neva-22b`."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from neva.engine.protocol import EngineInfo, Sampling
from neva.server.completion import Completion
from neva.server.content import Door, read_messages
from neva.server.desk import Desk
from neva.server.limits import check_messages, check_most
from neva.server.polls import Polls, poll_seconds
from neva.server.reply import Asked, fingerprint, reply, whole
from neva.server.schemas import NvidiaRequest, Stop, StreamOptions
from neva.server.shapes import CHAT

NAME = "nvidia/neva-22b"


def stops(stop: Stop | None) -> tuple[str, ...]:
    """`stop` as a tuple, whichever way it was written."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def wants_usage(options: StreamOptions | None) -> bool:
    """Whether a stream ends with a chunk of usage and no choices."""
    return bool(options and options.include_usage)


def sampling(top_p: float, **others: Any) -> Sampling:
    """The sampling; top_p 0 leaves only the likeliest token, which is temperature 0."""
    if top_p == 0:
        return Sampling(**{**others, "temperature": 0.0})
    return Sampling(top_p=top_p, **others)


def default_tokens(info: EngineInfo) -> int:
    """`max_tokens` of a request that has none: NVIDIA's 1024, less where the context is small.

    A context of 0 is not known: another server's.
    """
    half = info.context // 2 if info.context else Sampling.max_tokens
    return min(Sampling.max_tokens, max(1, half))


def nvidia_routes(desk: Desk, door: Door, polls: Polls) -> APIRouter:
    """The route and its path."""
    router = APIRouter(tags=["Multimodal API"])

    @router.post(
        "/v1/vlm/nvidia/neva-22b",
        operation_id="invokeFunction",
        summary="Ask about images, as at ai.api.nvidia.com",
        responses=CHAT,
    )
    async def ask(body: NvidiaRequest, http: Request) -> Response:
        limits = desk.settings.limits
        check_messages(len(body.messages), limits)
        check_most("max_tokens", body.max_tokens, limits.nvidia_max_tokens)
        images = door.for_request(http)
        shape = Completion(
            NAME,
            fingerprint(desk),
            include_usage=wants_usage(body.stream_options),
            detailed=False,
        )
        asked = Asked(
            said=lambda: read_messages(body.messages, body.labels, images),
            sampling=sampling(
                body.top_p,
                temperature=body.temperature,
                max_tokens=body.max_tokens
                or min(default_tokens(desk.info), limits.nvidia_max_tokens),
                seed=body.seed,
                stop=stops(body.stop),
            ),
            stream=body.stream,
        )
        seconds = poll_seconds(http)
        if seconds is None or body.stream:
            return await reply(http, desk, asked, shape)
        return await polls.begin(http, lambda told: whole(desk, asked, shape, told), seconds)

    return router
