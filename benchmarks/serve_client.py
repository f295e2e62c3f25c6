"""A light streaming client of OpenAI's chat API: it must not take the CPU that the servers need.

Sockets by asyncio, HTTP/1.1 by hand, one connection per answer (as a new user has), every event
stamped when it arrives. Bodies are made before the clock starts.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field


@dataclass
class Answer:
    """One answer as it came. `stamps`: `perf_counter` of each piece of text."""

    sent: float
    stamps: list[float] = field(default_factory=list)
    text: str = ""
    counted: int | None = None
    error: str | None = None

    @property
    def tokens(self) -> int:
        """As the server counts them; pieces of text where it does not, or was cut off."""
        return len(self.stamps) if self.counted is None else self.counted

    @property
    def ttft(self) -> float:
        """Seconds to the first text."""
        return self.stamps[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces."""
        return [b - a for a, b in zip(self.stamps, self.stamps[1:], strict=False)]


@dataclass(frozen=True)
class Place:
    """Where a server listens, and the name that its model goes by."""

    port: int
    model: str
    host: str = "127.0.0.1"


class HttpAsker:
    """Asks a server; see `Asker` in serve_load.py."""

    path = "/v1/chat/completions"

    def __init__(self, place: Place) -> None:
        self._place = place

    def ask(
        self, bodies: Sequence[dict[str, object]], clients: int, seconds: float
    ) -> list[Answer]:
        """Answer all bodies with `clients` under way; what is not done after `seconds` is cut."""
        made = [self._request(self.dressed(body)) for body in bodies]
        return asyncio.run(self._all(made, clients, seconds))

    def dressed(self, body: dict[str, object]) -> dict[str, object]:
        """The body as this server wants it."""
        return {**body, "model": self._place.model}

    def hear(self, event: bytes, answer: Answer) -> None:
        """Note an event's text, usage or error."""
        _hear(event, answer)

    async def _all(self, made: Sequence[bytes], clients: int, seconds: float) -> list[Answer]:
        answers: list[Answer] = []
        waiting = iter(made)

        async def client() -> None:
            for request in waiting:
                answers.append(Answer(time.perf_counter()))
                await self._one(request, answers[-1])

        tasks = [asyncio.create_task(client()) for _ in range(min(clients, len(made)))]
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return answers

    async def _one(self, request: bytes, answer: Answer) -> None:
        try:
            reader, writer = await asyncio.open_connection(self._place.host, self._place.port)
        except OSError as error:
            answer.error = f"no connection: {error}"
            return
        try:
            writer.write(request)
            async for event in _events(reader):
                self.hear(event, answer)
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            answer.error = f"{type(error).__name__}: {error}"
        finally:
            writer.close()

    def _request(self, body: dict[str, object]) -> bytes:
        data = json.dumps(body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\n"
            f"Host: {self._place.host}:{self._place.port}\r\n"
            "Content-Type: application/json\r\nAccept: text/event-stream\r\n"
            f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + data


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The data of each server-sent event. ValueError for another status than 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    chunked = b"transfer-encoding: chunked" in head.lower()
    if status != b"200":
        raise ValueError(f"status {status.decode()}: {(await reader.read(600))!r}")
    pending = b""
    async for piece in _pieces(reader, chunked):
        pending += piece.replace(b"\r", b"")
        *whole, pending = pending.split(b"\n\n")
        for event in whole:
            if event.startswith(b"data: "):
                if event == b"data: [DONE]":
                    return
                yield event[6:]


async def _pieces(reader: asyncio.StreamReader, chunked: bool) -> AsyncIterator[bytes]:
    """The body as it comes, out of its chunks."""
    while chunked:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if not size:
            return
        yield (await reader.readexactly(size + 2))[:-2]
    while piece := await reader.read(65536):
        yield piece


def _hear(event: bytes, answer: Answer) -> None:
    """Note an event's text, usage or error."""
    now, data = time.perf_counter(), json.loads(event)
    if data.get("error"):
        raise ValueError(str(data["error"])[:300])
    if data.get("usage"):
        answer.counted = int(data["usage"]["completion_tokens"])
    for choice in data.get("choices") or ():
        text = (choice.get("delta") or {}).get("content")
        if text:
            answer.stamps.append(now)
            answer.text += text
