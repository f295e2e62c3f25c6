"""Any OpenAI-compatible server as an engine: to judge what it serves, or to serve in front of it.

Only the standard library: a thread for every request under way, one connection each. The server
lays out the prompt, so the newline that our conversations have between image and question is left
to it, and so are SteerLM's labels. Log probabilities and grammars are not asked of it.
"""

import base64
import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from http.client import HTTPException
from threading import Lock, Thread
from typing import Any

from PIL import Image

from neva.engine.admission import check_able
from neva.engine.protocol import Chunk, EngineInfo, Finish, Request, Stream, Usage
from neva.engine.stream import ChunkStream
from neva.engine.wire import (
    DONE,
    PATIENCE_S,
    REFUSALS,
    Line,
    Server,
    Told,
    refused,
    said,
)
from neva.errors import EngineError, NevaError
from neva.images.image import RGBImage
from neva.prompts import Conversation, ImageSlot

_log = logging.getLogger("neva.engine")

FINISHES: Mapping[str, Finish] = {
    "stop": "stop", "eos_token": "stop", "stop_sequence": "stop", "length": "length",
}  # fmt: skip
NONE: Mapping[str, str] = {}
WITHHELD = frozenset(("content_filter", "tool_calls", "function_call"))


class Withheld(EngineError):
    """The server gives no answer to this request, and would give none again."""


ABLE_S = 2.0
UNREACHED = "the model's own server did not answer; try again"
LEFT = Chunk("", "cancelled", Usage(0, 0))
BUSY = "the model's own server is busy; try again in a moment"


class RemoteEngine:
    """An Engine over HTTP; `url` is the server's address, with or without /v1.

    `patience`: seconds for which a request is sent again while the server is busy. `discreet`, for
    strangers who ask: neither its address nor what went wrong there is told, but what it says of a
    request that it refuses; the log has the rest.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        key: str | None = None,
        patience: float = PATIENCE_S,
        discreet: bool = False,
    ) -> None:
        self._server = Server(url, key, patience)
        self._discreet = discreet
        self._lock = Lock()
        self._under_way: dict[Line, ChunkStream] = {}
        self._prepared: Mapping[str, str] = {}
        listed = self._server.models()
        names = [str(entry.get("id")) for entry in listed]
        if model is not None and model not in names:
            raise EngineError(f"{self._server.url} serves {', '.join(names)}, not {model!r}.")
        self.info = described(listed[names.index(model) if model is not None else 0])
        self.info = replace(self.info, device="remote" if discreet else self._server.place)

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        """Send each request from a thread of its own, however many are under way."""
        for request in requests:
            check_able(request.sampling, self.info)
        return [self._start(request) for request in requests]

    def prepare(self, requests: Sequence[Request]) -> None:
        """Encode their pictures, in place of those prepared before: a stopwatch that starts when a
        request is sent would otherwise time our PNG encoder, not the server.
        """
        images = {image.digest: image for request in requests for image in request.images}
        self._prepared = {digest: uri(image) for digest, image in images.items()}

    def able(self) -> bool:
        """Would a request be answered now? Asks for the list of models, ABLE_S at most."""
        return self._server.serves(self.info.name, ABLE_S)

    def close(self) -> None:
        """End the streams under way, at once even where the server is silent."""
        with self._lock:
            streams = list(self._under_way.values())
        for stream in streams:
            stream.cancel()

    def _start(self, request: Request) -> Stream:
        line = Line()

        def leave() -> None:
            line.hang_up()
            stream.push(LEFT)  # now: a connection that is still being made hears nothing

        stream = ChunkStream(leave)
        body = self._body(request)
        with self._lock:
            self._under_way[line] = stream
        # a daemon: a connection that is still being made must not keep the process alive
        told = copy_context().run  # so that a log line of the thread has its request's id
        Thread(
            target=told, args=(self._talk, body, stream, line), name="neva-remote", daemon=True
        ).start()
        return stream

    def _body(self, request: Request) -> bytes:
        sampling = request.sampling
        body = {
            "model": self.info.name,
            "messages": messages(request.conversation, request.images, self._prepared),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        for name in ("top_k", "presence_penalty", "frequency_penalty"):
            if (value := getattr(sampling, name)) is not None:
                body[name] = value
        if request.conversation.turns[-1].role == "assistant":  # go on with it: vLLM's and SGLang's
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        return json.dumps(body).encode()

    def _talk(self, body: bytes, stream: ChunkStream, line: Line) -> None:
        """One request from first byte to last; whatever goes wrong ends the stream with a word."""
        try:
            last = self._answer(body, stream, line)
        except Exception as error:  # who waits for the last chunk would wait for ever
            last = LEFT if line.cut.is_set() else self._failure(error)
        finally:
            with self._lock:
                del self._under_way[line]
        stream.push(last)

    def _answer(self, body: bytes, stream: ChunkStream, line: Line) -> Chunk:
        """Push the answer's text; its last chunk. EngineError for one that was cut off."""
        finish: Finish | None = None
        usage = None
        for event in self._server.events(body, line):
            if event is DONE:
                finish = finish or "stop"
                break
            if "error" in event:
                kind = Withheld if refused(event["error"]) else EngineError
                raise kind(f"the server said: {said(event)}")
            usage = event.get("usage") or usage
            for choice in event.get("choices") or ():
                text = (choice.get("delta") or {}).get("content") or ""
                finish = finish_of(choice.get("finish_reason")) or finish
                if not isinstance(text, str):
                    raise EngineError(f"a piece of the answer is no text but {type(text).__name__}")
                if text:
                    stream.push(Chunk(text))
        if finish is None:
            raise EngineError("the answer was cut off before its end.")
        return Chunk("", finish, counted(usage))

    def _failure(self, error: Exception) -> Chunk:
        """The last chunk of what went wrong; `asker` where only this request is to blame."""
        words = str(error) or type(error).__name__
        if not isinstance(error, NevaError | OSError | ValueError | HTTPException):
            words = f"an answer that is not OpenAI's ({type(error).__name__}: {words})"
        told = error if isinstance(error, Told) else None
        busy = told.wait if told is not None and told.code == 429 else None
        own = isinstance(error, Withheld) or (told is not None and told.code in REFUSALS)
        if not self._discreet:
            words = f"{self._server.place}: {words}"
        elif not own:
            _log.warning("%s: %s", self._server.place, words)
            words = UNREACHED if busy is None else BUSY
        elif told is not None:
            words = told.words
        return Chunk("", "error", Usage(0, 0), words, asker=own, busy=busy)


def described(entry: Mapping[str, Any]) -> EngineInfo:
    """What an entry of /v1/models says of its model; our own server says more than others."""
    told = entry.get("neva")
    truth: Mapping[str, Any] = told if isinstance(told, dict) else {}
    return EngineInfo(
        name=str(entry.get("id")),
        engine="remote",
        precision=str(truth.get("precision", "unknown")),
        context=number(truth.get("context") or entry.get("max_model_len")),
        image_tokens=number(truth.get("image_tokens")),
        reproducible=bool(truth.get("reproducible", False)),
        weights=str(truth.get("weights") or "")[:64],
    )


def number(told: object) -> int:
    """A count, 0 where the server tells none."""
    return int(told) if isinstance(told, int | float) and math.isfinite(told) else 0


def finish_of(reason: object) -> Finish | None:
    """Why the answer ended, None while it goes on. EngineError where what came is no answer."""
    if not reason:
        return None
    if reason in WITHHELD:
        raise Withheld(f"the server ended the answer: {reason}")
    if reason not in FINISHES:
        raise EngineError(f"the server ended the answer: {reason!r}")
    return FINISHES[str(reason)]


def messages(
    conversation: Conversation, images: Sequence[RGBImage], prepared: Mapping[str, str] = NONE
) -> list[dict[str, Any]]:
    """The conversation in OpenAI's form, pictures as PNG data URIs; `prepared` are by digest."""
    told: list[dict[str, Any]] = []
    if conversation.system is not None:
        told.append({"role": "system", "content": conversation.system})
    for turn in conversation.turns:
        parts: list[dict[str, Any]] = []
        after_image = False
        for part in turn.parts:
            if isinstance(part, ImageSlot):
                image = images[part.index]
                url = prepared.get(image.digest) or uri(image)
                parts.append({"type": "image_url", "image_url": {"url": url}})
            else:
                text = part.removeprefix("\n") if after_image else part
                parts.append({"type": "text", "text": text})
            after_image = isinstance(part, ImageSlot)
        plain = len(parts) == 1 and parts[0]["type"] == "text"
        told.append({"role": turn.role, "content": parts[0]["text"] if plain else parts})
    return told


def uri(image: RGBImage) -> str:
    """A picture as a data URI, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image.array).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def counted(usage: dict[str, Any] | None) -> Usage:
    """The server's count of tokens, zeros where it gave none; what it had cached, where it says."""
    given = usage or {}
    details = given.get("prompt_tokens_details") or {}
    cached, images = (details.get(name) for name in ("cached_tokens", "cached_images"))
    return Usage(
        int(given.get("prompt_tokens") or 0),
        int(given.get("completion_tokens") or 0),
        None if cached is None else int(cached),
        None if images is None else int(images),
    )
