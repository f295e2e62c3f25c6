"""Servers for tests: one in this process around an engine, and one on a real socket."""

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from echo_engine import EchoEngine, wait_until
from PIL import Image
from starlette.testclient import TestClient

from neva.engine.protocol import Engine
from neva.server.address import bind
from neva.server.app import create_app
from neva.server.listen import Server, server_for
from neva.server.settings import Settings

WEB = httpx.Client(verify=False, timeout=60)
"""One client for all: making one reads a megabyte of certificates."""
NVIDIA = "/v1/vlm/nvidia/neva-22b"
CHAT = "/v1/chat/completions"


def png(width: int = 8, height: int = 6, colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(sink, "PNG")
    return sink.getvalue()


def data_uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@dataclass
class House:
    """A client and the engine behind it."""

    client: TestClient
    engine: EchoEngine

    def ask(self, content: object, path: str = NVIDIA, **fields: object):
        messages = [{"role": "user", "content": content}]
        return self.client.post(path, json={"messages": messages, **fields})

    def text(self, content: object, path: str = NVIDIA, **fields: object) -> str:
        response = self.ask(content, path, **fields)
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])


@dataclass
class Live:
    """A server on a real port, run by uvicorn in a thread."""

    port: int
    server: Server
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(
    engine: Engine, settings: Settings | None = None, protocol: type | None = None
) -> Iterator[Live]:
    bound = bind("127.0.0.1", 0)
    server = server_for(create_app(engine, settings))
    server.config.http = protocol or server.config.http
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
    thread.start()
    assert wait_until(lambda: server.started)
    try:
        yield Live(bound.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(10)
        bound.close()
