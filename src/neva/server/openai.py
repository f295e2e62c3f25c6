"""OpenAI's routes: `POST /v1/chat/completions` and `GET /v1/models`."""

import secrets
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from neva.engine.protocol import EngineInfo, Sampling
from neva.server.completion import Completion
from neva.server.content import Door, read_messages
from neva.server.desk import Desk
from neva.server.errors import ApiError
from neva.server.limits import check_messages, check_most
from neva.server.nvidia import default_tokens, sampling, stops, wants_usage
from neva.server.reply import Asked, fingerprint, grammar_read, reply
from neva.server.schemas import OpenAIRequest
from neva.server.settings import Settings
from neva.server.shapes import CHAT, ModelCard, ModelList, shaped


def drawn_seed() -> int:
    """A seed for a request that brings none."""
    return secrets.randbits(31)


def served_name(model: str | None, info: EngineInfo, settings: Settings) -> str:
    """The name to answer under; ApiError 404 for a model that is not here."""
    if model is None:
        return info.name
    if model != info.name and model not in settings.aliases:
        raise ApiError(
            404, f"the model {model[:80]!r} is not served here; use {info.name!r}", "model"
        )
    return model


def how(body: OpenAIRequest, info: EngineInfo, grammar: str | None) -> Sampling:
    """The sampling of a request; what it leaves open is the model's default."""
    plain = Sampling()
    given = body.max_completion_tokens or body.max_tokens
    return sampling(
        plain.top_p if body.top_p is None else body.top_p,
        temperature=plain.temperature if body.temperature is None else body.temperature,
        max_tokens=given or default_tokens(info),
        seed=drawn_seed() if body.seed is None else body.seed,
        stop=stops(body.stop),
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
        grammar=grammar,
        top_k=None if body.top_k is None else max(0, body.top_k),
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
    )


def model_card(info: EngineInfo, settings: Settings, created: int) -> dict[str, Any]:
    """One entry of `/v1/models`: what NIM's clients read, and under `neva` the plain truth."""
    permission = {
        "id": f"modelperm-{info.name}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": info.top_logprobs is not None,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": info.name,
        "object": "model",
        "created": created,
        "owned_by": "system",
        "root": info.name,
        "parent": None,
        "max_model_len": info.context or None,
        "permission": [permission],
        "neva": {
            "engine": info.engine,
            "device": info.device,
            "precision": info.precision,
            "weights": info.weights or None,
            "context": info.context or None,
            "image_tokens": info.image_tokens or None,
            "reproducible": info.reproducible,
            "top_logprobs": info.top_logprobs,
            "json_schema": info.grammar,
            "penalties": info.penalties,
            "aliases": list(settings.aliases),
        },
    }


def openai_routes(desk: Desk, door: Door) -> APIRouter:
    """Chat completions and models."""
    router = APIRouter(tags=["OpenAI API"])
    settings, created = desk.settings, int(time.time())

    @router.post("/v1/chat/completions", summary="Chat about images, as at OpenAI", responses=CHAT)
    async def chat(body: OpenAIRequest, http: Request) -> Response:
        check_messages(len(body.messages), settings.limits)
        check_most("n", body.n, settings.limits.choices)
        http.state.place.take(body.n or 1)
        images = door.for_request(http)
        shape = Completion(
            served_name(body.model, desk.info, settings),
            fingerprint(desk),
            choices=body.n or 1,
            include_usage=wants_usage(body.stream_options),
            logprobs=bool(body.logprobs),
        )
        asked = Asked(
            said=lambda: read_messages(body.messages, body.labels, images),
            sampling=how(body, desk.info, await grammar_read(desk, body.response_format)),
            choices=body.n or 1,
            stream=bool(body.stream),
        )
        return await reply(http, desk, asked, shape)

    @router.get("/v1/models", summary="The model that is served, and how", **shaped(ModelList))
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model_card(desk.info, settings, created)]}

    @router.get(
        "/v1/models/{model:path}",
        summary="The model under one of its names",
        **shaped(ModelCard),
    )
    async def model(model: str) -> dict[str, Any]:
        name = served_name(model, desk.info, settings)
        return {**model_card(desk.info, settings, created), "id": name}

    return router
