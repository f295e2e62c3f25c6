"""The responses' shapes, for the OpenAPI document only: the code writes them as plain objects."""

from typing import Any, Literal

from pydantic import BaseModel

from neva.server.schemas import Content


class ErrorDetail(BaseModel):
    """OpenAI's part of an error."""

    message: str
    type: str
    param: str | None
    code: int


class Problem(BaseModel):
    """Every error: OpenAI's `error` inside NVIDIA's problem details."""

    error: ErrorDetail
    type: str
    title: str
    status: int
    detail: str
    instance: str
    requestId: str


class PromptDetails(BaseModel):
    """Prompt tokens that were in the KV cache, and images that were encoded before."""

    cached_tokens: int
    cached_images: int | None = None


class Usage(BaseModel):
    """Tokens; those of images count as prompt. Details where the engine knows them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None


class Said(BaseModel):
    """The answer."""

    role: Literal["assistant"]
    content: str


class Logprob(BaseModel):
    """A token and its log probability before temperature and top_p."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobs(Logprob):
    """A token of the answer, and the likeliest in its place."""

    top_logprobs: list[Logprob]


class Logprobs(BaseModel):
    """The answer's tokens."""

    content: list[TokenLogprobs]
    refusal: None


class Choice(BaseModel):
    """One answer."""

    index: int
    message: Said
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """A whole answer. With `stream`, its pieces come as server-sent events instead."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class OutputText(BaseModel):
    """A piece of an answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]


class OutputMessage(BaseModel):
    """The answer as an item."""

    type: Literal["message"]
    id: str
    role: Literal["assistant"]
    status: Literal["completed", "incomplete"]
    content: list[OutputText]


class ResponseObject(BaseModel):
    """A response of the Responses API (its main fields)."""

    id: str
    object: Literal["response"]
    created_at: float
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    model: str
    output: list[OutputMessage]
    previous_response_id: str | None
    store: bool
    usage: dict[str, Any] | None


class InputItem(BaseModel):
    """What was said, as an item."""

    type: Literal["message"]
    id: str
    role: str
    content: Content


class FileObject(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"]


class FileList(BaseModel):
    """Uploaded files."""

    object: Literal["list"]
    data: list[FileObject]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None


class InputItems(BaseModel):
    """What was said to a response, newest first."""

    object: Literal["list"]
    data: list[InputItem]
    first_id: str
    last_id: str
    has_more: bool


class Deleted(BaseModel):
    """It is gone."""

    id: str
    object: str
    deleted: bool


class AllDeleted(BaseModel):
    """How many were deleted."""

    object: Literal["list"]
    deleted: int


class ModelTruth(BaseModel):
    """What really answers."""

    engine: str
    device: str
    precision: str
    weights: str | None
    context: int | None
    image_tokens: int | None
    reproducible: bool
    top_logprobs: int | None
    json_schema: bool
    aliases: list[str]


class ModelCard(BaseModel):
    """The model as OpenAI, NIM and vLLM show it, and the truth."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int | None
    permission: list[dict[str, Any]]
    neva: ModelTruth


class ModelList(BaseModel):
    """The one model that is served."""

    object: Literal["list"]
    data: list[ModelCard]


class AssetObject(BaseModel):
    """An asset as NVCF shows it."""

    assetId: str
    contentType: str
    description: str


class NewAssetObject(AssetObject):
    """An announced asset, and where to upload it, once."""

    uploadUrl: str


class AssetShown(BaseModel):
    """One asset."""

    asset: AssetObject


class AssetList(BaseModel):
    """This key's assets."""

    assets: list[AssetObject]


class Health(BaseModel):
    """As NIM says it."""

    object: Literal["health.response"]
    message: str


class Version(BaseModel):
    """The release, and the API's version."""

    release: str
    api: str
    version: str


class License(BaseModel):
    """The server's licence, with its text."""

    name: str
    path: str
    type: str
    content: str


class Profile(BaseModel):
    """How the model is served."""

    engine: str
    precision: str
    device: str
    context: int | None
    image_tokens: int | None
    reproducible: bool


class Metadata(BaseModel):
    """As NIM shows it."""

    version: str
    modelInfo: list[dict[str, str]]
    assetInfo: list[str]
    licenseInfo: dict[str, str]
    profile: Profile


def shaped(model: type[BaseModel]) -> dict[str, Any]:
    """A route's options that say what its 200 looks like; nothing is checked or changed by it."""
    told = {"model": model, "description": (model.__doc__ or "").splitlines()[0]}
    return {"response_model": None, "responses": {200: told}}


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        400: "The body is not JSON, or asks for what this engine cannot give",
        401: "A valid API key is needed",
        403: "Not allowed",
        404: "Not found, or not this key's",
        408: "The body did not arrive in time",
        413: "The body is too large",
        421: "A foreign Host name",
        422: "A field is wrong; the message names it",
        429: "Too much at once; Retry-After tells when to come back",
        500: "A fault of the server",
        503: "The model is loading, or the engine restarted",
        507: "The store is full",
    }.items()
}
STREAM: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
CHAT: dict[int | str, dict[str, Any]] = {
    200: {"model": ChatCompletion, "description": "The answer", "content": STREAM}
}
RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"model": ResponseObject, "description": "The response", "content": STREAM}
}
