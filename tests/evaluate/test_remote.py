"""The remote engine against our own server: the engine behind it sees what a local one would."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import uvicorn
from eval_double import Double, words

from neva.engine.protocol import Request, Sampling, Usage, collect
from neva.engine.remote import RemoteEngine, counted
from neva.engine.wire import retry_after
from neva.errors import EngineError
from neva.images import from_pixels
from neva.prompts import Conversation, ask, assistant, user
from neva.server.app import create_app
from neva.server.settings import Limits, Settings

PICTURE = from_pixels(np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3))


def reply(request: Request) -> str:
    if "fail" in words(request):
        raise RuntimeError("out of memory")
    return "echo:" + words(request)


@contextmanager
def serving(engine: Double, settings: Settings | None = None) -> Iterator[str]:
    """The address of a server that runs on a thread."""
    app = create_app(engine, settings)
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[str, Double]]:
    """(address, engine) of a server for most tests."""
    engine = Double(reply, refuses=lambda request: "too long" in words(request))
    with serving(engine) as address:
        yield address, engine


@pytest.mark.parametrize(
    "conversation",
    [
        ask("what is it?"),
        ask("hello", images=0),
        ask("what is it?\nAnswer the question using a single word or phrase.", system="Be brief."),
        Conversation((*ask("what?").turns, assistant("a cat"), user("and where?"))),
    ],
)
def test_the_same_request_arrives(behind: tuple[str, Double], conversation: Conversation) -> None:
    address, engine = behind
    remote = RemoteEngine(address)
    images = (PICTURE,) if conversation.slots else ()
    request = Request(conversation, images, Sampling(0.0, 0.5, 99, 7, ("###",)))
    text, last = collect(remote.generate([request])[0])
    remote.close()
    arrived = engine.asked[-1]
    assert arrived.conversation == conversation
    assert [image.digest for image in arrived.images] == [image.digest for image in images]
    assert replace(arrived.sampling, stop=()) == Sampling(0.0, 0.5, 99, 7)
    assert "###" in arrived.sampling.stop
    assert text == "echo:" + conversation.turns[-1].text
    assert last.finish == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens == len(text)


@pytest.mark.parametrize("said", [None, 0, 2])
def test_a_zero_that_was_said_is_passed_on(behind: tuple[str, Double], said: int | None) -> None:
    """The server behind may have other defaults: llama.cpp's top_k is 40."""
    address, engine = behind
    how = Sampling(1.0, top_k=said, presence_penalty=said, frequency_penalty=said)
    remote = RemoteEngine(address)
    collect(remote.generate([Request(ask("hello", images=0), (), how)])[0])
    remote.close()
    arrived = engine.asked[-1].sampling
    found = (arrived.top_k, arrived.presence_penalty, arrived.frequency_penalty)
    assert found == (said, said, said)


def test_knows_what_is_served(behind: tuple[str, Double]) -> None:
    remote = RemoteEngine(behind[0] + "/v1", "double")
    assert (remote.info.name, remote.info.engine, remote.info.precision) == (
        "double", "remote", "exact",
    )  # fmt: skip
    assert (remote.info.context, remote.info.image_tokens) == (4096, 4)
    remote.close()
    with pytest.raises(EngineError, match="serves double, not 'other'"):
        RemoteEngine(behind[0], "other")


@pytest.mark.parametrize("cached", [(32, 1), (0, 0), (None, None)])
def test_what_the_server_had_cached_is_carried_through(cached: tuple[int | None, ...]) -> None:
    engine = Double(reply)
    engine.cached = cached
    with serving(engine) as address:
        remote = RemoteEngine(address)
        _, last = collect(remote.generate([Request(ask("hello", images=0))])[0])
        remote.close()
    assert last.usage == Usage(1, len("echo:hello"), *cached)


def test_other_servers_tell_less() -> None:
    assert counted(None) == Usage(0, 0)
    told = {"prompt_tokens": 40, "completion_tokens": 5}
    assert counted(told) == Usage(40, 5)
    assert counted({**told, "prompt_tokens_details": None}) == Usage(40, 5)
    details = {"cached_tokens": 32, "audio_tokens": 0}
    assert counted({**told, "prompt_tokens_details": details}) == Usage(40, 5, 32)


@pytest.mark.parametrize("question", ["too long", "fail"])
def test_an_error_ends_the_stream_with_a_word(behind: tuple[str, Double], question: str) -> None:
    remote = RemoteEngine(behind[0])
    _, last = collect(remote.generate([Request(ask(question, images=0))])[0])
    remote.close()
    assert last.finish == "error"
    assert last.error


def test_comes_again_when_the_server_is_busy() -> None:
    engine = Double(reply)
    limits = Limits(running=1, waiting=0)
    with serving(engine, Settings(limits=limits)) as address:
        remote = RemoteEngine(address)
        asked = [Request(ask(f"number {n}", images=0)) for n in range(3)]
        answers = [collect(stream) for stream in remote.generate(asked)]
        remote.close()
    assert [text for text, _ in answers] == [f"echo:number {n}" for n in range(3)]
    assert engine.most == 1


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 1.0), ("2", 2.0), ("0", 0.1), ("9999", 60.0), ("soon", 1.0)]
)
def test_retry_after(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_no_server_is_one_sentence() -> None:
    with pytest.raises(EngineError, match=r"no OpenAI-compatible server at http://127\.0\.0\.1:9"):
        RemoteEngine("127.0.0.1:9")
    with pytest.raises(EngineError, match="not an http address"):
        RemoteEngine("ftp://x")
