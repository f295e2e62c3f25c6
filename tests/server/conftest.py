"""Fixtures of the server's tests."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from echo_engine import EchoEngine
from server_house import House, Live, serving
from starlette.testclient import TestClient

from neva.server.app import create_app
from neva.server.settings import Settings

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "images"))  # its corpus of hostile images
sys.path.append(str(TESTS / "engine"))  # its tiny checkpoints


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random LLaVA, for the real engine."""
    from tiny_llava import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def shared_house() -> Iterator[House]:
    """One app for all tests that change nothing in it: making one costs a tenth of a second."""
    engine = EchoEngine()
    with TestClient(create_app(engine), raise_server_exceptions=False) as client:
        yield House(client, engine)


@pytest.fixture
def house(shared_house: House) -> House:
    """A server that has been asked nothing yet."""
    shared_house.engine.streams.clear()
    return shared_house


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


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    with ExitStack() as stack:
        yield lambda *given, **named: stack.enter_context(serving(*given, **named))
