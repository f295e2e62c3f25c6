"""A server in this process around the echo engine, and one on a real socket."""

import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
from echo_engine import EchoEngine, wait_until
from PIL import Image
from starlette.testclient import TestClient

from neva.engine.protocol import Engine
from neva.server.app import create_app
from neva.server.listen import Server, bind, server_for
from neva.server.settings import Settings

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


@pytest.fixture
def house() -> Iterator[House]:
    engine = EchoEngine()
    with TestClient(create_app(engine), raise_server_exceptions=False) as client:
        yield House(client, engine)


@pytest.fixture
def house_of() -> Iterator[Callable[..., House]]:
    """A house with settings or an engine of one's own."""
    with ExitStack() as stack:

        def make(settings: Settings | None = None, engine: EchoEngine | None = None) -> House:
            engine = engine or EchoEngine()
            app = create_app(engine, settings)
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            return House(client, engine)

        yield make


@dataclass
class Live:
    """A server on a real port, run by uvicorn in a thread."""

    port: int
    server: Server
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(engine: Engine, settings: Settings | None = None) -> Iterator[Live]:
    bound = bind("127.0.0.1", 0)
    server = server_for(create_app(engine, settings))
    server.install_signal_handlers = False
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
    thread.start()
    assert wait_until(lambda: server.started)
    try:
        yield Live(bound.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(10)
        bound.close()


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    with ExitStack() as stack:
        yield lambda engine, settings=None: stack.enter_context(serving(engine, settings))
