"""Any OpenAI-compatible server as an engine, so that a served model is judged like a local one.

Only the standard library: a thread for every request under way, one connection each. The server
lays out the prompt, so the newline that our conversations have between image and question is left
to it.
"""

import base64
import http.client
import io
import json
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from neva.engine.protocol import Chunk, EngineInfo, Finish, Request, Stream, Usage
from neva.engine.stream import ChunkStream
from neva.errors import EngineError, NevaError
from neva.images.image import RGBImage
from neva.prompts import Conversation, ImageSlot

TIMEOUT_S = 600.0
PATIENCE_S = 600.0
FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length"}


class Busy(EngineError):
    """The server has no place now and asks to come again after `seconds`."""

    def __init__(self, words: str, seconds: float) -> None:
        super().__init__(words)
        self.seconds = seconds


class RemoteEngine:
    """An Engine over HTTP; `url` is the server's address, with or without /v1."""

    def __init__(
        self, url: str, model: str | None = None, key: str | None = None, most: int = 64
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError(f"{url!r} is not an http address; give --url http://HOST:PORT.")
        self._parts = parts
        self._base = parts.path.rstrip("/").removesuffix("/v1") + "/v1"
        self._key = key
        self._closing = Event()
        listed = self._models()
        names = [str(entry.get("id")) for entry in listed]
        if model is not None and model not in names:
            raise EngineError(f"{url} serves {', '.join(names)}, not {model!r}.")
        entry = listed[names.index(model) if model is not None else 0]
        truth = entry.get("neva") or {}
        self.info = EngineInfo(
            name=str(entry.get("id")),
            engine="remote",
            precision=str(truth.get("precision", "unknown")),
            context=int(truth.get("context") or entry.get("max_model_len") or 0),
            image_tokens=int(truth.get("image_tokens", 0)),
            reproducible=bool(truth.get("reproducible", False)),
            device=parts.netloc.rpartition("@")[2],
        )
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="neva-remote")

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        """Send each request from a thread of its own."""
        return [self._start(request) for request in requests]

    def close(self) -> None:
        """End the streams under way."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self, request: Request) -> Stream:
        stopped = Event()
        stream = ChunkStream(stopped.set)
        body = self._body(request)
        self._pool.submit(self._talk, body, stream, stopped)
        return stream

    def _body(self, request: Request) -> bytes:
        sampling = request.sampling
        body = {
            "model": self.info.name,
            "messages": messages(request.conversation, request.images),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        return json.dumps(body).encode()

    def _talk(self, body: bytes, stream: ChunkStream, stopped: Event) -> None:
        """One request from first byte to last; whatever goes wrong ends the stream with a word."""
        try:
            finish: Finish = "stop"
            usage = None
            for event in self._events(body, stopped):
                if stopped.is_set() or self._closing.is_set():
                    stream.push(Chunk("", "cancelled", Usage(0, 0)))
                    return
                if "error" in event:
                    raise EngineError(f"the server said: {said(event)}")
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    text = (choice.get("delta") or {}).get("content") or ""
                    finish = FINISHES.get(choice.get("finish_reason") or "", finish)
                    if text:
                        stream.push(Chunk(text))
            stream.push(Chunk("", finish, counted(usage)))
        except (NevaError, OSError, ValueError, http.client.HTTPException) as error:
            stream.push(Chunk("", "error", Usage(0, 0), f"{self.info.device}: {error}"))

    def _accepted(
        self, body: bytes, stopped: Event
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send, and again for as long as the server is busy, up to PATIENCE_S."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._send("POST", "/chat/completions", body)
            except Busy as busy:
                if time.monotonic() + busy.seconds > until or stopped.wait(busy.seconds):
                    raise

    def _events(self, body: bytes, stopped: Event) -> Iterator[dict[str, Any]]:
        """The JSON objects of the answer's event stream."""
        connection, answer = self._accepted(body, stopped)
        try:
            for line in answer:
                name, _, data = line.decode().strip().partition(":")
                if name != "data" or not data.strip():
                    continue
                if data.strip() == "[DONE]":
                    return
                yield json.loads(data)
        finally:
            connection.close()

    def _models(self) -> list[dict[str, Any]]:
        """What is served."""
        try:
            connection, answer = self._send("GET", "/models")
            try:
                listed: list[dict[str, Any]] = json.loads(answer.read()).get("data") or []
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise EngineError(
                f"no OpenAI-compatible server at {self._parts.geturl()} ({error}); "
                "start one with `neva serve` or correct --url."
            ) from None
        if not listed:
            raise EngineError(f"{self._parts.geturl()} serves no model.")
        return listed

    def _send(
        self, method: str, path: str, body: bytes | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """One request, whose connection the caller closes. EngineError unless the status is 200."""
        host, port = self._parts.hostname or "", self._parts.port
        connection = (
            http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
            if self._parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        )
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if method == "GET":
            headers = {"Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection.request(method, self._base + path, body, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            words = said_raw(answer.read(65536))
            connection.close()
            words = f"the server answered {answer.status}: {words}"
            if answer.status == 429:
                raise Busy(words, retry_after(answer.getheader("Retry-After")))
            raise EngineError(words)
        return connection, answer


def retry_after(header: str | None) -> float:
    """Seconds to wait, between 0.1 and 60; 1 where the server says nothing that is a number."""
    try:
        return min(max(float(header or 1), 0.1), 60.0)
    except ValueError:
        return 1.0


def messages(conversation: Conversation, images: Sequence[RGBImage]) -> list[dict[str, Any]]:
    """The conversation in OpenAI's form, pictures as PNG data URIs."""
    told: list[dict[str, Any]] = []
    if conversation.system is not None:
        told.append({"role": "system", "content": conversation.system})
    for turn in conversation.turns:
        parts: list[dict[str, Any]] = []
        after_image = False
        for part in turn.parts:
            if isinstance(part, ImageSlot):
                parts.append({"type": "image_url", "image_url": {"url": uri(images[part.index])}})
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


def said_raw(body: bytes) -> str:
    """The message of an error's body, or its beginning."""
    try:
        return said(json.loads(body))
    except ValueError:
        return body[:200].decode(errors="replace")


def said(error: Any) -> str:
    """The sentence in an error object of any dialect."""
    found = error.get("error", error) if isinstance(error, dict) else error
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found.get("title") or found
    return str(found)[:500]
