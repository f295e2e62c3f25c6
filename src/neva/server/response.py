"""An answer in the shape of OpenAI's Responses API, whole or as its named events."""

import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from neva.engine.protocol import Chunk, Usage
from neva.server.completion import SORRY, Heard, cached_dict, failure
from neva.server.sse import event

Save = Callable[[dict[str, Any]], Any]


def usage_dict(usage: Usage | None) -> dict[str, Any]:
    """Tokens under the names of the Responses API."""
    known = usage or Usage(0, 0)
    return {
        "input_tokens": known.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, **cached_dict(known)},
        "output_tokens": known.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": known.prompt_tokens + known.completion_tokens,
    }


@dataclass(frozen=True)
class Response:
    """The head of one response. `echo` are the request's own fields that are given back.

    `save` is awaited with the finished response, before its end is told.
    """

    model: str
    echo: dict[str, Any]
    save: Save
    id: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    message: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")
    created: float = field(default_factory=lambda: float(int(time.time())))

    def _body(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": output,
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            "text": {"format": {"type": "text"}},
            "reasoning": {"effort": None, "summary": None},
            "truncation": "disabled",
            "usage": None,
            **self.echo,
            **more,
        }

    def _item(self, status: str, *parts: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "message",
            "id": self.message,
            "role": "assistant",
            "status": status,
            "content": list(parts),
        }

    def _finished(self, text: str, last: Chunk) -> dict[str, Any]:
        """The response when everything is said."""
        usage = usage_dict(last.usage)
        if last.finish == "error":
            error = {"code": "server_error", "message": last.error or SORRY}
            item = self._item("incomplete", _part(text))
            return self._body("failed", [item], usage=usage, error=error)
        if last.finish == "stop":
            return self._body("completed", [self._item("completed", _part(text))], usage=usage)
        item, why = self._item("incomplete", _part(text)), {"reason": "max_output_tokens"}
        return self._body("incomplete", [item], usage=usage, incomplete_details=why)

    async def whole(self, heard: Heard) -> dict[str, Any]:
        """The response as one object; EngineError if the engine failed."""
        text, last = "", Chunk("", "stop")
        async for _, last in heard:
            text += last.text
        if last.finish == "error":
            raise failure(last)
        body = self._finished(text, last)
        await self.save(body)
        return body

    async def events(self, heard: Heard) -> AsyncIterator[bytes]:
        """The response as events, numbered."""
        number = 0

        def told(kind: str, **more: Any) -> bytes:
            nonlocal number
            data = {"type": kind, "sequence_number": number, **more}
            number += 1
            return event(data, kind)

        place = {"output_index": 0, "item_id": self.message, "content_index": 0}
        begun = self._body("in_progress", [])
        yield told("response.created", response=begun)
        yield told("response.in_progress", response=begun)
        item = self._item("in_progress")
        yield told("response.output_item.added", output_index=0, item=item)
        yield told("response.content_part.added", **place, part=_part(""))
        text, last = "", Chunk("", "stop")
        async for _, last in heard:
            text += last.text
            if last.text:
                yield told("response.output_text.delta", **place, delta=last.text, logprobs=[])
        body = self._finished(text, last)
        yield told("response.output_text.done", **place, text=text, logprobs=[])
        yield told("response.content_part.done", **place, part=_part(text))
        yield told("response.output_item.done", output_index=0, item=body["output"][0])
        if body["status"] != "failed":
            await self.save(body)
        yield told(f"response.{body['status']}", response=body)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
