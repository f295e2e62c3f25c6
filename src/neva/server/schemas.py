"""The requests' shapes, NVIDIA's and OpenAI's: what is checked before any work is done.

Unknown fields are let through in silence, because every client in the field sends some; a known
field that would change the answer and that we cannot honour is refused.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from neva.engine.grammar import SchemaError, object_grammar, schema_grammar
from neva.server.bounds import DEEPEST, MOST_MESSAGES, at_most, can_be_told, few_parts
from neva.server.errors import ApiError

INT64 = 2**63


def _text(value: str) -> str:
    """Text that can be encoded: JSON can carry half a surrogate pair, UTF-8 cannot."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode text, without lone surrogates") from None
    return value


Unicode = AfterValidator(_text)
Text = Annotated[str, Unicode]
StopText = Annotated[str, Field(min_length=1, max_length=256), Unicode]
Stop = Annotated[
    StopText | Annotated[list[StopText], Field(max_length=16, fail_fast=True)], at_most(16)
]
Labels = Annotated[
    dict[Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")], Annotated[int, Field(ge=0, le=9)]],
    Field(max_length=16, description="SteerLM attributes 0..9; used by the nvgpt template"),
    at_most(16),
]
Temperature = Annotated[float, Field(ge=0, le=2, strict=True, allow_inf_nan=False)]
TopP = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
TopK = Annotated[int, Field(ge=-1, le=2**31 - 1, strict=True)]  # no vocabulary is so large
Penalty = Annotated[float, Field(ge=-2, le=2, strict=True, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-INT64, lt=INT64, strict=True)]
Flag = Annotated[bool, Field(strict=True)]


FileId = Annotated[str, Field(max_length=80), Unicode]


class ImageUrl(BaseModel):
    """OpenAI's image object; `detail` is accepted and has no effect."""

    url: Text
    detail: Text | None = None


class TextPart(BaseModel):
    """A piece of text. `<img src="data:...">` tags in it are images."""

    type: Literal["text", "input_text", "output_text"]
    text: Text


class ImagePart(BaseModel):
    """An image: a data URI, `data:image/...;asset_id,UUID`, or an allowed http(s) URL."""

    type: Literal["image_url", "input_image"]
    image_url: Text | ImageUrl | None = None
    file_id: FileId | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("an image needs an image_url or a file_id, not both")
        return self

    @property
    def url(self) -> str | None:
        """The URL, whichever way it was written; None for a file."""
        return self.image_url.url if isinstance(self.image_url, ImageUrl) else self.image_url


class ChatFile(BaseModel):
    """A file's id, or the picture itself as a data URI."""

    file_id: FileId | None = None
    file_data: Text | None = None
    filename: Text | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.file_data is None) == (self.file_id is None):
            raise ValueError("a file needs a file_id or file_data, not both")
        return self


class FilePart(BaseModel):
    """A picture of the files API."""

    type: Literal["file"]
    file: ChatFile

    @property
    def file_id(self) -> str | None:
        """The file's id, or None if its data is here."""
        return self.file.file_id

    @property
    def url(self) -> str | None:
        """The data URI, or None for an id."""
        return self.file.file_data


Part = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type")]
Content = Annotated[
    Text | Annotated[list[Part], Field(max_length=4096, fail_fast=True)], at_most(4096)
]


class Message(BaseModel):
    """One message. `content` may be missing only on a last assistant message with `labels`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None
    labels: Labels | None = None


Messages = Annotated[
    list[Message],
    Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True),
    few_parts,
    at_most(MOST_MESSAGES),
]


class StreamOptions(BaseModel):
    """OpenAI's options of a stream."""

    include_usage: Flag | None = False


UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "logit_bias": ({},),
    "audio": (),
    "modalities": (["text"],),
}
"""OpenAI fields that would change the answer, which no engine honours -> harmless values."""
NOT_NVIDIAS: dict[str, tuple[Any, ...]] = {
    **UNSUPPORTED,
    "n": (1,),
    "top_k": (0, -1),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "response_format": ({"type": "text"},),
}
"""The same of NVIDIA's route, which has fewer."""


class NvidiaRequest(BaseModel):
    """`POST /v1/vlm/nvidia/neva-22b`, with NVIDIA's defaults."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "messages": [
                    {
                        "role": "user",
                        "content": 'What is this? <img src="data:image/png;base64,..." />',
                    }
                ],
                "max_tokens": 64,
                "temperature": 0.2,
                "top_p": 0.7,
                "seed": 0,
                "stream": False,
            }
        }
    )

    messages: Messages
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=INT64, strict=True)] | None = Field(
        None,
        description="1024, or half the model's context where that is less; at most 1024 unless the "
        "operator says otherwise",
    )
    temperature: Temperature = 0.2
    top_p: TopP = 0.7
    seed: Seed = 0
    stream: Flag = False
    stop: Stop | None = None
    labels: Labels | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, data: Any) -> Any:
        """Clients send null for "not set"; messages is the only field without a default."""
        if isinstance(data, dict):
            refuse(data, NOT_NVIDIAS)
            return {k: v for k, v in data.items() if v is not None or k == "messages"}
        return data

    @model_validator(mode="after")
    def _in_nvidias_order(self) -> Self:
        """System messages first, then the user; OpenAI's routes take any order."""
        spoken = [message.role not in ("system", "developer") for message in self.messages]
        if sorted(spoken) != spoken:
            raise ValueError("system messages must come before all others")
        if not any(spoken) or self.messages[spoken.index(True)].role != "user":
            raise ValueError("the first message after the system's must be the user's")
        return self


class JsonSchema(BaseModel):
    """OpenAI's named schema; `strict` is always so here."""

    name: Text | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: Flag | None = None


class TextFormat(BaseModel):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(BaseModel):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(BaseModel):
    """JSON that is valid against a schema (chat completions' form)."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class FlatSchemaFormat(JsonSchema):
    """JSON that is valid against a schema (the Responses API's form)."""

    type: Literal["json_schema"]


ResponseFormat = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]
OutputFormat = Annotated[TextFormat | ObjectFormat | FlatSchemaFormat, Field(discriminator="type")]


def grammar_of(form: ResponseFormat | OutputFormat | None) -> str | None:
    """The grammar that keeps a format; SchemaError (400) if none can.

    The Responses API gives the schema back, so it must be one that can be written.
    """
    if isinstance(form, ObjectFormat):
        return object_grammar()
    if not isinstance(form, SchemaFormat | FlatSchemaFormat):
        return None
    schema = form.json_schema.schema_ if isinstance(form, SchemaFormat) else form.schema_
    grammar = schema_grammar(schema)
    if not can_be_told(schema):
        raise SchemaError(
            "the JSON schema holds NaN, an infinite number or half a surrogate pair, or is more "
            f"than {DEEPEST} levels deep"
        )
    return grammar


class OpenAIRequest(BaseModel):
    """`POST /v1/chat/completions`. Sampling defaults: temperature 0.2, top_p 0.7."""

    model: str | None = None
    messages: Messages
    max_tokens: Annotated[int, Field(ge=1, le=INT64, strict=True)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=INT64, strict=True)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = Field(None, description="without a seed, every answer draws its own")
    n: Annotated[int, Field(ge=1, le=INT64, strict=True)] | None = Field(
        None, description="answers to make; 8 at most unless the operator says otherwise"
    )
    stop: Stop | None = None
    top_k: TopK | None = Field(None, description="likeliest tokens to keep, as at vLLM; 0, -1: all")
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    labels: Labels | None = None
    logprobs: Flag | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20, strict=True)] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        """Say so, rather than answer as if the field had been honoured."""
        if isinstance(data, dict):
            refuse(data)
        return data

    @model_validator(mode="after")
    def _top_needs_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @model_validator(mode="after")
    def _options_need_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            self.stream_options = None
        return self


def refuse(data: dict[str, Any], table: Mapping[str, tuple[Any, ...]] = UNSUPPORTED) -> None:
    """ApiError 422 for a field of `UNSUPPORTED` that is set to more than a harmless value."""
    for name, harmless in table.items():
        value = data.get(name)
        if value is not None and value not in harmless:
            raise ApiError(422, f"{name} is not supported by this server; leave it out", name)
