"""OpenAI's Responses API: `POST /v1/responses` with `store` and `previous_response_id`.

A stored response can be shown, deleted, and gone on from; all of a key's can be exported.
"""

import json
import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, model_validator
from starlette.responses import JSONResponse, Response, StreamingResponse

from neva.engine.protocol import Sampling
from neva.server.bounds import MOST_MESSAGES, at_most, few_parts
from neva.server.content import Door, Images, Said, read_messages
from neva.server.desk import Desk
from neva.server.errors import ApiError
from neva.server.input_items import Window, items_of, page
from neva.server.limits import check_messages
from neva.server.nvidia import default_tokens, sampling
from neva.server.openai import drawn_seed, served_name
from neva.server.reply import Asked, grammar_read, reply
from neva.server.response import Response as ResponseShape
from neva.server.schemas import (
    INT64,
    Flag,
    Message,
    OutputFormat,
    Seed,
    Temperature,
    Text,
    TopP,
    Unicode,
    refuse,
)
from neva.server.settings import Limits
from neva.server.shapes import (
    RESPONSE,
    AllDeleted,
    Deleted,
    InputItems,
    ResponseObject,
    shaped,
)
from neva.server.store import Spoken, Store, Stored, StoreError

log = logging.getLogger("neva.server")


class Item(Message):
    """One item of `input`: a message; tools' items are not known here."""

    type: Literal["message"] = "message"


Input = Annotated[
    Text | Annotated[list[Item], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)],
    few_parts,
    at_most(MOST_MESSAGES),
]
Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=64), Unicode],
        Annotated[str, Field(max_length=512), Unicode],
    ],
    Field(max_length=16, description="given back with the response; OpenAI's limits"),
    at_most(16),
]
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "prompt": (),
    "top_logprobs": (0,),
    "top_k": (0, -1),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "truncation": ("disabled",),
}
"""Fields of this API alone that would change the answer -> harmless values."""


class TextOptions(BaseModel):
    """The answer's form."""

    format: OutputFormat | None = None


class ResponsesRequest(BaseModel):
    """`POST /v1/responses`."""

    input: Input
    model: str | None = None
    instructions: Text | None = None
    previous_response_id: Annotated[str, Field(max_length=80), Unicode] | None = None
    store: Flag | None = True
    stream: Flag | None = False
    max_output_tokens: Annotated[int, Field(ge=1, le=INT64, strict=True)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = Field(None, description="ours: OpenAI's Responses API has no seed")
    metadata: Metadata | None = None
    text: TextOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        if isinstance(data, dict):
            refuse(data)
            refuse(data, UNSUPPORTED)
        return data

    @property
    def form(self) -> OutputFormat | None:
        """The answer's form."""
        return self.text.format if self.text else None

    @property
    def said(self) -> list[Message]:
        """The input as messages."""
        if isinstance(self.input, str):
            return [Message(role="user", content=self.input)]
        return list(self.input)


class JsonLines(StreamingResponse):
    """One JSON object a line."""

    media_type = "application/x-ndjson"


class Conversations:
    """What the responses of this server remember."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store = store
        self._limits = limits

    def messages(self, owner: str, body: ResponsesRequest) -> list[Message]:
        """The whole conversation: instructions, what was said before, what is said now.

        ApiError 404 when the response before is not this key's, has expired or was deleted.
        """
        before = [message for spoken in self._chain(owner, body) for message in _turn(spoken)]
        check_messages(len(before) + len(body.said), self._limits)
        system = [Message(role="system", content=body.instructions)] if body.instructions else []
        return [*system, *before, *body.said]

    def _chain(self, owner: str, body: ResponsesRequest) -> list[Spoken]:
        if body.previous_response_id is None:
            return []
        chain = self.store.chain(owner, body.previous_response_id, self._limits)
        if chain is None:
            raise ApiError(
                404,
                f"response {body.previous_response_id[:80]!r} or one before it is not stored "
                "for this key; send the whole conversation",
                "previous_response_id",
            )
        return chain

    def read(self, owner: str, body: ResponsesRequest, images: Images) -> Said:
        """The conversation and its images. Runs in a reading thread."""
        return read_messages(self.messages(owner, body), None, images)


def _turn(spoken: Spoken) -> list[Message]:
    """What was said, and answered."""
    said = [Message.model_validate(message) for message in spoken.said]
    return [*said, Message(role="assistant", content=spoken.text)]


def how(body: ResponsesRequest, desk: Desk, grammar: str | None) -> Sampling:
    """The sampling of a request; what it leaves open is the model's default."""
    plain = Sampling()
    return sampling(
        plain.top_p if body.top_p is None else body.top_p,
        temperature=plain.temperature if body.temperature is None else body.temperature,
        max_tokens=body.max_output_tokens or default_tokens(desk.info),
        seed=drawn_seed() if body.seed is None else body.seed,
        grammar=grammar,
    )


def form_of(body: ResponsesRequest) -> dict[str, Any]:
    """The answer's form as it is given back."""
    if body.form is None:
        return {"type": "text"}
    return body.form.model_dump(by_alias=True, exclude_none=True)


def shape_of(
    body: ResponsesRequest, asked: Asked, model: str, desk: Desk, store: Store, owner: str
) -> ResponseShape:
    """The response's shape, which stores it when it is finished and known to be writable."""
    keep = body.store is not False
    echo = {
        "instructions": body.instructions,
        "previous_response_id": body.previous_response_id,
        "max_output_tokens": body.max_output_tokens,
        "temperature": asked.sampling.temperature,
        "top_p": asked.sampling.top_p,
        "metadata": body.metadata or {},
        "store": keep,
        "text": {"format": form_of(body)},
    }

    async def save(answer: dict[str, Any]) -> None:
        if not keep:
            return
        said = [message.model_dump(exclude_none=True) for message in body.said]
        stored = Stored(answer["id"], body.previous_response_id, said, answer)

        def kept() -> None:
            JSONResponse([answer, said])  # what cannot be shown again must not be kept
            store.save(owner, stored, desk.settings.limits.response_bytes)

        try:
            await desk.read(kept)
        except StoreError as error:  # the answer is still worth giving, but it must not lie
            log.error("not stored: %s", error)
            answer["store"] = False

    return ResponseShape(model, echo, save)


def responses_routes(desk: Desk, door: Door, store: Store) -> APIRouter:
    """The Responses API."""
    router = APIRouter(tags=["Responses"])
    talks = Conversations(store, desk.settings.limits)

    @router.post(
        "/v1/responses",
        summary="Say something in a conversation that is remembered",
        responses=RESPONSE,
    )
    async def respond(body: ResponsesRequest, http: Request) -> Response:
        owner, images = http.state.owner, door.for_request(http)
        model = served_name(body.model, desk.info, desk.settings)
        asked = Asked(
            said=lambda: talks.read(owner, body, images),
            sampling=how(body, desk, await grammar_read(desk, body.form)),
            stream=bool(body.stream),
        )
        return await reply(http, desk, asked, shape_of(body, asked, model, desk, store, owner))

    @router.get(
        "/v1/responses/export",
        summary="All your stored responses, a JSON object a line",
        response_class=JsonLines,
    )
    def export(http: Request) -> Response:
        def lines() -> Iterator[str]:
            for stored in store.export(http.state.owner):
                yield json.dumps({"input": stored.said, "response": stored.answer}) + "\n"

        return JsonLines(lines())

    @router.get("/v1/responses/{name}", summary="A stored response", **shaped(ResponseObject))
    def shown(name: str, http: Request) -> dict[str, Any]:
        return _found(store, http.state.owner, name).answer

    @router.get(
        "/v1/responses/{name}/input_items",
        summary="What was said to it",
        **shaped(InputItems),
    )
    def items(name: str, http: Request, window: Annotated[Window, Query()]) -> dict[str, Any]:
        return page(items_of(name, _found(store, http.state.owner, name).said), window)

    @router.delete("/v1/responses/{name}", summary="Delete a stored response", **shaped(Deleted))
    def deleted(name: str, http: Request) -> dict[str, Any]:
        if not store.delete(http.state.owner, name):
            raise _missing(name)
        return {"id": name, "object": "response", "deleted": True}

    @router.delete(
        "/v1/responses", summary="Delete all your stored responses", **shaped(AllDeleted)
    )
    def all_deleted(http: Request) -> dict[str, Any]:
        return {"object": "list", "deleted": store.delete_all(http.state.owner)}

    return router


def _missing(name: str) -> ApiError:
    return ApiError(404, f"response {name[:80]!r} is not stored for this key")


def _found(store: Store, owner: str, name: str) -> Stored:
    stored = store.find(owner, name)
    if stored is None:
        raise _missing(name)
    return stored
