"""What a client of the soak does: it asks about a picture, and sometimes leaves in the middle.

Standard library only, so that locust's own environment can import it (locustfile.py).
"""

import base64
import http.client
import json
import random
import struct
import threading
import time
import zlib
from collections import Counter
from typing import Any

CHAT = "/v1/chat/completions"
KNOWN = 0.25
"""Share of questions about a picture that this client sent before."""
STREAMED = 0.5
LEFT = 0.1
"""Share of streams that are left after the first piece."""
LONGEST = 64
FINE = frozenset({"200", "429", "left"})
"""Ends that are no fault of the server; 429 is what it must say when it is full."""


def picture(rng: random.Random, side: int = 96) -> str:
    """A data URI of noise, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + rng.randbytes(3 * side) for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows, 1))
        + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


class Asker:
    """One client's questions: the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._known = picture(self._rng)

    def question(self) -> tuple[dict[str, Any], bool]:
        """(the body, whether to leave in the middle)."""
        rng = self._rng
        shown = self._known if rng.random() < KNOWN else picture(rng)
        content = [
            {"type": "image_url", "image_url": {"url": shown}},
            {"type": "text", "text": "What is this?"},
        ]
        stream = rng.random() < STREAMED
        body = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": rng.randrange(8, LONGEST),
            "stream": stream,
        }
        return body, stream and rng.random() < LEFT


def complete(body: dict[str, Any], said: bytes) -> bool:
    """Whether an answer with status 200 came to its end."""
    if not body["stream"]:
        return b'"finish_reason":"' in said and b'"choices"' in said
    return said.endswith(b"data: [DONE]\n\n") and b'"error":{' not in said


def ask(place: tuple[str, int], body: dict[str, Any], leave: bool) -> str:
    """One request; the kind of its end."""
    connection = http.client.HTTPConnection(*place, timeout=300)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", CHAT, json.dumps(body), headers)
        response = connection.getresponse()
        if leave and response.status == 200:
            response.read(200)
            return "left"
        said = response.read()
        if response.status == 200 and not complete(body, said):
            return "cut off"
        return str(response.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def client(place: tuple[str, int], seed: int, until: float, ends: Counter[str]) -> None:
    """Ask until the time is over."""
    asker = Asker(seed)
    while time.monotonic() < until:
        end = ask(place, *asker.question())
        ends[end] += 1
        if end == "429":
            time.sleep(1)  # as its Retry-After says


def crowd(place: tuple[str, int], clients: int, seconds: float, ends: Counter[str]) -> None:
    """`clients` of them at once; returns when the last has had its answer."""
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(place, seed, until, ends)) for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
