"""What a Triton request asks: its tensors -> an engine's request, by the server's own rules.

The names are those of TensorRT-LLM's backend for Triton (`triton_backend/all_models/llmapi`) where
it has the same thing; `messages` and `image` are ours. Tensors become the body of a chat
completion, which goes through the schemas and the door for images that `neva serve` has.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from neva.engine.protocol import EngineInfo, Request
from neva.errors import ImageError, PromptError
from neva.images import ImageSource, RGBImage, read_image
from neva.prompts.conversation import ImageSlot
from neva.server.album import Album
from neva.server.content import Source, read_messages
from neva.server.errors import ApiError, explained
from neva.server.limits import check_messages
from neva.server.openai import how
from neva.server.schemas import OpenAIRequest
from neva.server.settings import Limits


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model, as `config.pbtxt` declares it."""

    name: str
    kind: str
    many: bool = False
    field: str = ""
    """The field of a chat completion that it fills."""


INPUTS = (
    Tensor("text_input", "STRING"),
    Tensor("messages", "STRING"),
    Tensor("image_url", "STRING", many=True),
    Tensor("image", "STRING", many=True),
    Tensor("streaming", "BOOL", field="stream"),
    Tensor("sampling_param_max_tokens", "INT32", field="max_tokens"),
    Tensor("sampling_param_temperature", "FP32", field="temperature"),
    Tensor("sampling_param_top_p", "FP32", field="top_p"),
    Tensor("sampling_param_top_k", "INT32", field="top_k"),
    Tensor("sampling_param_presence_penalty", "FP32", field="presence_penalty"),
    Tensor("sampling_param_frequency_penalty", "FP32", field="frequency_penalty"),
    Tensor("sampling_param_seed", "UINT64", field="seed"),
    Tensor("sampling_param_stop", "STRING", many=True, field="stop"),
    Tensor("sampling_param_exclude_input_from_output", "BOOL"),
)
OUTPUTS = (
    Tensor("text_output", "STRING"),
    Tensor("finish_reason", "STRING"),
    Tensor("prompt_tokens", "INT32"),
    Tensor("completion_tokens", "INT32"),
)
Values = Mapping[str, Sequence[Any]]
"""Input's name -> its elements: bytes, bool, int or float. What was not sent is not there."""


@dataclass(frozen=True)
class TritonAsk:
    """One request, and whether its answer is to come in pieces."""

    request: Request
    streaming: bool


def read_ask(values: Values, info: EngineInfo, limits: Limits) -> TritonAsk:
    """The request in `values`. NevaError or ApiError says which input is wrong and how to mend it.

    Without a seed it is 0, NVIDIA's default for neva-22b.
    """
    named = {one.name: _read(one, values[one.name]) for one in INPUTS if one.name in values}
    fields = {one.field: named[one.name] for one in INPUTS if one.field and one.name in named}
    if named.get("sampling_param_exclude_input_from_output") is False:
        raise ApiError(422, "the question is never part of the answer; leave the input out")
    files = named.get("image", [])
    said = _messages(named, len(files))
    try:
        body = OpenAIRequest.model_validate({"seed": 0, **fields, "messages": said})
    except ValidationError as error:
        status, sentence, _ = explained(RequestValidationError(error.errors(include_input=False)))
        raise ApiError(status, _ours(sentence)) from None
    check_messages(len(body.messages), limits)
    read = read_messages(body.messages, None, Pictures(files, limits))
    sampling = how(body, info, None)
    return TritonAsk(Request(read.conversation, read.images, sampling), bool(body.stream))


def _ours(sentence: str) -> str:
    """A sentence about a field as one about the input that filled it."""
    field, colon, rest = sentence.partition(":")
    names = {one.field: one.name for one in INPUTS if one.field}
    return f"{names.get(field, field)}{colon}{rest}"


def _read(tensor: Tensor, elements: Sequence[Any]) -> Any:
    """The value of an input; of `many` a list."""
    if tensor.name == "image":
        return list(elements)
    read = [_text(tensor, one) if tensor.kind == "STRING" else one for one in elements]
    if tensor.many:
        return read
    if len(read) != 1:
        raise ApiError(422, f"{tensor.name} must have one element, not {len(read)}")
    # float32 has no .2: what was meant is the shortest number that is the same float32
    return float(f"{read[0]:.7g}") if tensor.kind == "FP32" else read[0]


def _text(tensor: Tensor, element: bytes | str) -> str:
    try:
        return element.decode("utf-8") if isinstance(element, bytes) else element
    except UnicodeDecodeError:
        raise ApiError(422, f"{tensor.name} is not UTF-8") from None


def _messages(named: Mapping[str, Any], files: int) -> Any:
    """`messages`, or the one message that `text_input` and the pictures beside it are."""
    if "messages" in named:
        if {"text_input", "image_url"} & named.keys() or files:
            raise ApiError(422, "send messages, or text_input with its images, not both")
        try:
            return json.loads(named["messages"])
        except (ValueError, RecursionError):
            raise ApiError(422, "messages is not valid JSON") from None
    if "text_input" not in named:
        raise ApiError(422, "text_input is missing: the question, or messages as JSON")
    urls = [*(f"{FILE}{n}" for n in range(files)), *named.get("image_url", [])]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": named["text_input"]}]}]


FILE = "tensor:"
"""Beginning of the URL of an element of `image`."""


class Pictures:
    """The images of one request: elements of `image`, and data URIs. Nothing is fetched."""

    sharers = ""

    def __init__(self, files: Sequence[bytes], limits: Limits) -> None:
        self._files = {f"{FILE}{n}": file for n, file in enumerate(files)}
        self._album = Album(limits)

    def fetch_first(self, sources: Sequence[Source]) -> None:
        """Nothing is: addresses are refused by `take`."""

    def take(self, source: Source) -> ImageSlot:
        """Open one; ApiError, ImageError or PromptError says which one and why not."""
        return self._album.add(lambda: read_image(self._bytes(source)))

    def all(self) -> tuple[RGBImage, ...]:
        """What was opened, in order."""
        return self._album.emptied()

    def _bytes(self, source: Source) -> bytes:
        if not isinstance(source, ImageSource):
            raise PromptError("there are no files here; send the image as a data URI")
        if source.url in self._files:
            return self._files[source.url]
        if source.is_data:
            return source.data()
        raise ImageError(
            "this server fetches no images from URLs; send it as data:image/...;base64,... or its "
            "bytes in the input image"
        )
