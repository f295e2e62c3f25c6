"""The one small protocol of every engine: requests in, streams of text out. No HTTP, no tensors.

Engines: `openvino` (embedded default on CPU), `torch` (reference, any device), `remote`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from neva.images.image import RGBImage
from neva.prompts.conversation import Conversation

Finish = Literal["stop", "length", "cancelled", "error"]
GREEDY = 1e-5
"""Temperatures below leave float32's range, and engines then fail or choose at random. Already at
it a token whose logit is .001 less than the best is e**-100 times as likely: nothing is lost."""
ALONE = 1e-6
"""A smaller top_p leaves one token, since the likeliest of a million has that much; float32 has no
1e-46, and engines refuse its 0."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. The defaults are NVIDIA's for neva-22b.

    temperature 0 is greedy, and so are any below GREEDY and a top_p below ALONE. `seed` fixes the
    text whatever else is running. `stop` strings end the answer and are not part of it. `logprobs`
    asks for each token's log probability, `top_logprobs` for those of so many likeliest tokens too.
    `grammar` (EBNF with a rule `root`, see grammar.py) confines the answer's text. `top_k` keeps so
    many likeliest tokens, 0 all. Of a token's logit `presence_penalty` is taken once it was said,
    `frequency_penalty` each time: OpenAI's, of the answer only. None is as 0 for our engines; a
    server elsewhere is told nothing then, and goes by its own default.
    """

    temperature: float = 0.2
    top_p: float = 0.7
    max_tokens: int = 1024
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    grammar: str | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    @property
    def greedy(self) -> bool:
        """Always the likeliest token."""
        return self.temperature < GREEDY or self.top_p < ALONE or self.top_k == 1


@dataclass(frozen=True)
class Request:
    """One answer to be made; `images[slot.index]` belongs to `slot` of the conversation.

    `owner`: whose images these are; encoded images are found again by requests of the same owner.
    """

    conversation: Conversation
    images: tuple[RGBImage, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    owner: str = ""


@dataclass(frozen=True)
class Usage:
    """Tokens of a request; image tokens count as prompt tokens.

    `cached_tokens` of the prompt and `cached_images` were known from earlier requests, and so were
    not computed again; None where the engine cannot tell.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    cached_images: int | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """One token of an answer and its natural log probability under the model, before temperature
    and top_p. `spelled` are its bytes, `text` as much of them as is text; `top` the likeliest
    tokens as (text, bytes, log probability), likeliest first.
    """

    text: str
    spelled: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A piece of answer. The last chunk of a stream, and only it, has `finish` and `usage`.

    With finish "error", `error` is a sentence for the user, and `asker` says that the same request
    would fail again, `busy` that it was not begun and may come again after so many seconds.
    `logprobs`, where asked for, are of the tokens that spell the text so far.
    """

    text: str
    finish: Finish | None = None
    usage: Usage | None = None
    error: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    asker: bool = False
    busy: float | None = None


class Stream(Protocol):
    """The answer as it is made."""

    def __iter__(self) -> Iterator[Chunk]:
        """Wait for chunks, the last of which has `finish`. May be used once."""
        ...

    def listen(self, heard: Callable[[Chunk], None]) -> None:
        """Instead of iterating: call `heard` with every chunk, from the engine's thread.

        Chunks that came before the call are heard first, in order.
        """
        ...

    def cancel(self) -> None:
        """End the stream with finish "cancelled", at once. Safe to call late.

        The engine stops within one step, or with the first token of a prompt half computed.
        """
        ...


@dataclass(frozen=True)
class EngineInfo:
    """What is being served, for `/v1/models` and for admission.

    `top_logprobs`: most alternatives given beside a token's own log probability; None: no log
    probabilities. `grammar`: whether answers can be confined by one. `weights`: the checkpoint's
    fingerprint, "" where it is not known. `penalties`: whether words that were said can be made
    dearer.
    """

    name: str
    engine: str
    precision: str
    context: int
    image_tokens: int
    reproducible: bool
    device: str = "cpu"
    top_logprobs: int | None = None
    grammar: bool = False
    weights: str = ""
    penalties: bool = True


class Engine(Protocol):
    """Answer requests, several at once. All methods may be called from any thread."""

    @property
    def info(self) -> EngineInfo:
        """What is being served."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        """Start answering; raises NevaError at once for a request that can never be answered."""
        ...

    def close(self) -> None:
        """Free everything; streams under way end with finish "error"."""
        ...


def collect(stream: Stream) -> tuple[str, Chunk]:
    """Wait for the whole answer: (text, last chunk)."""
    text: list[str] = []
    last = Chunk("")
    for last in stream:
        text.append(last.text)
    return "".join(text), last
