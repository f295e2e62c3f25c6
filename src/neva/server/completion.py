"""An answer in the shape that NVIDIA's route and OpenAI's chat completions share.

The chunks keep the rules of docs/serving.md: `delta.content` is a string in every one of them,
`finish_reason` and `usage` come with the last content, and a chunk without choices comes only to
those who asked for it. At OpenAI it is then the only one with `usage`: LangChain adds up all that
it finds.
"""

import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from neva.engine.protocol import Chunk, Finish, TokenLogprob, Usage
from neva.errors import BusyError, EngineError, NevaError
from neva.server.sse import DONE, event

REASONS: Mapping[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "cancelled": "length",  # only we cancel an answer that is still read: it ran out of time
    "error": "error",
}
SORRY = "the engine could not finish the answer; try again"

Heard = AsyncIterator[tuple[int, Chunk]]


def failure(chunk: Chunk) -> NevaError:
    """What a chunk with finish "error" is: 400 where the asker must change something, else 503.

    429 where the engine has too much to do.
    """
    if chunk.busy is not None:
        return BusyError(chunk.error or SORRY, chunk.busy)
    kind = NevaError if chunk.asker else EngineError
    return kind(chunk.error or SORRY)


def usage_dict(prompt: int, completion: int) -> dict[str, Any]:
    """OpenAI's usage without details."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def cached_dict(usage: Usage) -> dict[str, int]:
    """What the engine had computed before: OpenAI's `cached_tokens`, and ours for images.

    Empty where it cannot tell.
    """
    said = {"cached_tokens": usage.cached_tokens, "cached_images": usage.cached_images}
    return {name: count for name, count in said.items() if count is not None}


def logprobs_dict(tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    """OpenAI's `logprobs` of a choice."""

    def named(text: str, spelled: bytes, logprob: float) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": list(spelled)}

    content = [
        {**named(t.text, t.spelled, t.logprob), "top_logprobs": [named(*top) for top in t.top]}
        for t in tokens
    ]
    return {"content": content, "refusal": None}


@dataclass
class Tally:
    """Tokens of all choices: the prompt counts once, as it does at OpenAI.

    So does what was known of it: the least of all choices, which one of them paid for.
    """

    detailed: bool = True
    prompt: int = 0
    completion: int = 0
    cached: dict[str, int] = field(default_factory=dict)

    def add(self, usage: Usage | None) -> None:
        """Count one finished choice."""
        if usage is not None:
            self.prompt = usage.prompt_tokens
            self.completion += usage.completion_tokens
            for name, count in cached_dict(usage).items():
                self.cached[name] = min(count, self.cached.get(name, count))

    def as_dict(self) -> dict[str, Any]:
        """The usage of the response."""
        plain = usage_dict(self.prompt, self.completion)
        if not self.detailed or not self.cached:
            return plain
        return {**plain, "prompt_tokens_details": self.cached}


@dataclass(frozen=True)
class Completion:
    """The head of one response, the same in all its chunks.

    `detailed`: usage as OpenAI tells it, with what was cached, and in a stream once; NVIDIA's has
    three numbers and no more, and always comes with the finish.
    """

    model: str
    fingerprint: str
    choices: int = 1
    include_usage: bool = False
    logprobs: bool = False
    detailed: bool = True
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    async def whole(self, heard: Heard) -> dict[str, Any]:
        """The response when everything is said; EngineError if a choice failed."""
        texts, reasons = [""] * self.choices, ["stop"] * self.choices
        tally = Tally(self.detailed)
        tokens: list[list[TokenLogprob]] = [[] for _ in texts]
        async for index, chunk in heard:
            texts[index] += chunk.text
            tokens[index] += chunk.logprobs
            if chunk.finish == "error":
                raise failure(chunk)
            if chunk.finish is not None:
                reasons[index] = REASONS[chunk.finish]
                tally.add(chunk.usage)
        said = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "logprobs": logprobs_dict(tokens[index]) if self.logprobs else None,
                "finish_reason": reason,
            }
            for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        ]
        return {**self._head("chat.completion"), "choices": said, "usage": tally.as_dict()}

    def _chunk(self, index: int, chunk: Chunk, first: bool) -> dict[str, Any]:
        delta = {"role": "assistant", "content": chunk.text} if first else {"content": chunk.text}
        reason = None if chunk.finish is None else REASONS[chunk.finish]
        logprobs = logprobs_dict(chunk.logprobs) if self.logprobs else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        data = {**self._head("chat.completion.chunk"), "choices": [choice]}
        if chunk.finish == "error":
            data["error"] = {
                "message": chunk.error or SORRY,
                "type": "invalid_request_error" if chunk.asker else "server_error",
                "param": None,
                "code": failure(chunk).status,
            }
        return data

    async def events(self, heard: Heard) -> AsyncIterator[bytes]:
        """The response as server-sent events."""
        begun: set[int] = set()
        finished, tally = 0, Tally(self.detailed)
        apart = self.include_usage and self.detailed
        async for index, chunk in heard:
            data = self._chunk(index, chunk, index not in begun)
            begun.add(index)
            if apart:
                data["usage"] = None
            if chunk.finish is not None:
                finished += 1
                tally.add(chunk.usage)
                if finished == self.choices and not apart:
                    data["usage"] = tally.as_dict()
            yield event(data)
        if self.include_usage:
            head = self._head("chat.completion.chunk")
            yield event({**head, "choices": [], "usage": tally.as_dict()})
        yield DONE
