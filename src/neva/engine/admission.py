"""What every engine checks before it accepts a request, so that nothing fails half way."""

import math
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from neva.engine.decode import AnswerText
from neva.engine.logprobs import LogprobTape
from neva.engine.protocol import EngineInfo, Request, Sampling
from neva.engine.vocabulary import spellings
from neva.errors import NevaError, PromptError
from neva.model.checkpoint import Checkpoint
from neva.prompts import Conversation, Encoded, ask, encode, stop_ids
from neva.prompts.encode import valid

LETTERS = 12
"""Of a long text that many for each token of the context are read first; English has four to five
to a token."""

MOST_PENALTY = 2.0
"""As at OpenAI."""


@dataclass(frozen=True)
class Limits:
    """`context`: the most tokens of prompt and answer together; `why`: what sets that limit."""

    context: int
    why: str


class Admission:
    """Checks and encodes requests for one checkpoint. Safe to use from several threads."""

    def __init__(self, checkpoint: Checkpoint, limits: Limits) -> None:
        self._checkpoint = checkpoint
        self._limits = limits
        self._lock = Lock()  # a tokenizer's special-token mode is state

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return frozenset(token for token in self._checkpoint.stop_ids if token >= 0)

    @cached_property
    def _end_ids(self) -> frozenset[int]:
        """Those of them that the template's end ends with."""
        return frozenset(stop_ids(self._checkpoint.template, self._checkpoint.tokenizer))

    @cached_property
    def spelled(self) -> tuple[bytes, ...] | None:
        """Every token's bytes; None for a tokenizer whose tokens are no bytes."""
        return spellings(self._checkpoint.tokenizer)

    def tape(self, sampling: Sampling) -> LogprobTape | None:
        """A tape for the answer's log probabilities, if they are asked for."""
        if not sampling.logprobs:
            return None
        return LogprobTape(self.spelled or (), strip=bool(self._checkpoint.template.lead))

    def warm(self) -> None:
        """Prepare the encoder, half a second for a large vocabulary, before the first request."""
        self._encode(ask("", images=0))

    def admit(self, request: Request) -> Encoded:
        """The prompt's ids; NevaError if the request can never be answered."""
        check_sampling(request.sampling)
        self._check_images(request)
        self._check_text(request.conversation)
        encoded = self._encode(request.conversation)
        if not encoded.ids:
            raise PromptError("the prompt is empty: say something or send an image")
        self._check_length(len(encoded.ids), request.sampling.max_tokens)
        return encoded

    def text(self, sampling: Sampling) -> AnswerText:
        """A reader for the answer's tokens, with the template's and the request's stop strings."""
        template, tokenizer = self._checkpoint.template, self._checkpoint.tokenizer
        stops = (*template.stop, *sampling.stop)
        lead = bool(template.lead)
        return AnswerText(tokenizer, stops, lead, template.end, self._end_ids)

    def _encode(self, conversation: Conversation) -> Encoded:
        checkpoint = self._checkpoint
        with self._lock:
            return encode(
                conversation,
                checkpoint.template,
                checkpoint.tokenizer,
                checkpoint.image_token_id,
                checkpoint.image_tokens,
                answer=True,
            )

    def _check_text(self, conversation: Conversation) -> None:
        """Refuse text that is far too long by its beginning: all of it may take half a minute."""
        text = valid("".join((conversation.system or "", *(t.text for t in conversation.turns))))
        most, seen = 2 * self._limits.context, LETTERS * self._limits.context
        while seen < len(text):
            with self._lock:  # a batch, even of one, is read without Python's lock
                tokenizer = self._checkpoint.tokenizer
                (begun,) = tokenizer.encode_batch_fast([text[:seen]], add_special_tokens=False)
            if len(begun) > most:  # twice: a cut may part what would be one token
                raise PromptError(
                    f"the first {seen:,} of the prompt's {len(text):,} letters have {len(begun):,} "
                    f"tokens, but {self._limits.why} is {self._limits.context}: shorten the "
                    "conversation"
                )
            seen *= 2

    def _check_images(self, request: Request) -> None:
        given, slots = len(request.images), request.conversation.slots
        missing = [slot.index for slot in slots if not 0 <= slot.index < given]
        if missing:
            raise PromptError(
                f"the conversation shows image {missing[0] + 1}, but {given} images were sent: "
                "send one image per place"
            )
        unused = set(range(given)) - {slot.index for slot in slots}
        if unused:
            raise PromptError(
                f"image {min(unused) + 1} of {given} has no place in the conversation: "
                "show it in a turn or leave it out"
            )

    def _check_length(self, prompt: int, answer: int) -> None:
        limit, total = self._limits.context, prompt + answer
        if total <= limit:
            return
        room = limit - prompt
        remedy = f"lower max_tokens to {room} or less" if room > 0 else "shorten the conversation"
        raise PromptError(
            f"the prompt has {prompt} tokens and max_tokens is {answer}, together {total}, but "
            f"{self._limits.why} is {limit}: {remedy}"
        )


def check_able(sampling: Sampling, info: EngineInfo) -> None:
    """NevaError for what this engine cannot give, with the reason."""
    if sampling.grammar is not None and not info.grammar:
        why = {
            "openvino": "its tokens are no bytes",
            "remote": "another server makes them",
        }.get(info.engine, "use --engine openvino")
        raise NevaError(f"the {info.engine} engine cannot confine answers to JSON here: {why}")
    if (sampling.presence_penalty or sampling.frequency_penalty) and not info.penalties:
        raise NevaError(
            f"the {info.engine} engine has no presence_penalty and no frequency_penalty: leave "
            "them out, or use --engine torch",
            param="presence_penalty" if sampling.presence_penalty else "frequency_penalty",
        )
    if sampling.logprobs and info.top_logprobs is None:
        raise NevaError(
            f"the {info.engine} engine gives no log probabilities of this model's tokens",
            param="logprobs",
        )
    if sampling.logprobs and sampling.top_logprobs > (info.top_logprobs or 0):
        most = f"at most {info.top_logprobs}" if info.top_logprobs else "none, only the token's own"
        raise NevaError(
            f"top_logprobs is {sampling.top_logprobs}, and the {info.engine} engine gives {most}; "
            "--engine torch gives 20",
            param="top_logprobs",
        )


def check_sampling(sampling: Sampling) -> None:
    """NevaError for a value out of range."""
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise NevaError(f"temperature is {sampling.temperature}: give 0 (greedy) or more")
    if not 0 < sampling.top_p <= 1:
        raise NevaError(f"top_p is {sampling.top_p}: give more than 0 and at most 1")
    if sampling.top_k is not None and sampling.top_k < 0:
        raise NevaError(f"top_k is {sampling.top_k}: give 0 (all tokens) or more")
    for name in ("presence_penalty", "frequency_penalty"):
        if not abs(getattr(sampling, name) or 0.0) <= MOST_PENALTY:  # NaN is not
            raise NevaError(
                f"{name} is {getattr(sampling, name)}: give -{MOST_PENALTY} to {MOST_PENALTY}"
            )
    if sampling.max_tokens < 1:
        raise NevaError(f"max_tokens is {sampling.max_tokens}: give 1 or more")
    if not 0 <= sampling.seed < 2**63:
        raise NevaError(f"seed is {sampling.seed}: give 0 to {2**63 - 1}")
    if not all(sampling.stop):
        raise NevaError("a stop string is empty: leave it out")
