"""A server on a real socket: clients that leave, that read slowly, that come all at once."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from echo_engine import EchoEngine, heard_as, wait_until
from server_house import CHAT, NVIDIA, WEB, Live

from neva.engine.protocol import Chunk, Finish, Usage
from neva.server.address import bind
from neva.server.app import create_app
from neva.server.listen import listen, server_for
from neva.server.listening import Listener
from neva.server.patience import PatientProtocol
from neva.server.settings import Limits, Settings

LONG = {"messages": [{"role": "user", "content": "word " * 300}], "seed": 0}
Make = Callable[..., Live]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [NVIDIA, CHAT])
def test_a_client_that_leaves_cancels_its_answer(live: Make, path: str, stream: bool) -> None:
    engine = EchoEngine(pause=0.02)
    server = live(engine)
    body = json.dumps({**LONG, "stream": stream}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert wait_until(lambda: bool(engine.streams) and len(engine.streams[0].said) > 2)
        if stream:
            assert b"200 OK" in client.recv(100)
    assert wait_until(engine.streams[0].ended.is_set, 20)
    assert engine.streams[0].said[-1].finish == "cancelled"
    metrics = WEB.get(f"{server.url}/metrics").text
    assert 'num_requests_running{model_name="echo"} 0.0' in metrics


def test_a_client_that_leaves_the_line_frees_its_place(live: Make) -> None:
    engine = EchoEngine(pause=0.02)
    server = live(engine, Settings(limits=Limits(running=1, waiting=1)))
    with WEB.stream("POST", server.url + NVIDIA, json={**LONG, "stream": True}) as first:
        lines = first.iter_lines()  # kept: a dropped iterator closes the connection
        next(lines)
        with pytest.raises(httpx.ReadTimeout):  # it waits in line, and gives up
            WEB.post(server.url + NVIDIA, json=LONG, timeout=0.2)
        text = 'waiting{model_name="echo"} 0.0'
        assert wait_until(lambda: text in WEB.get(f"{server.url}/metrics").text)
    assert len(engine.streams) == 1, "the one that gave up was never begun"


def test_a_full_house_answers_429(live: Make) -> None:
    server = live(EchoEngine(pause=0.02), Settings(limits=Limits(running=1, waiting=0)))
    with WEB.stream("POST", server.url + NVIDIA, json={**LONG, "stream": True}) as first:
        lines = first.iter_lines()  # kept: a dropped iterator closes the connection
        next(lines)
        refused = WEB.post(server.url + NVIDIA, json=LONG)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert "neva_requests_refused_total 1.0" in WEB.get(f"{server.url}/metrics").text
    short = {"messages": [{"role": "user", "content": "Hi"}]}
    assert wait_until(lambda: WEB.post(server.url + NVIDIA, json=short).status_code == 200)


def test_many_at_once_each_get_their_own_answer(live: Make) -> None:
    engine = EchoEngine(pause=0.001)
    server = live(engine, Settings(limits=Limits(running=4, waiting=100)))

    def ask(number: int) -> bool:
        body = {"messages": [{"role": "user", "content": f"question {number}"}], "seed": number}
        if number % 2:
            text = WEB.post(server.url + CHAT, json=body, timeout=20).json()
            said = text["choices"][0]["message"]["content"]
        else:
            lines = WEB.post(server.url + CHAT, json={**body, "stream": True}, timeout=20).text
            events = [json.loads(e[6:]) for e in lines.split("\n\n") if e.startswith("data: {")]
            said = "".join(e["choices"][0]["delta"]["content"] for e in events)
        return f"'question {number}'" in said and f"seed={number}" in said

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(48)))
    assert len(engine.streams) == 48


def test_an_answer_that_takes_too_long_ends_with_what_it_has(live: Make) -> None:
    server = live(EchoEngine(pause=0.02), Settings(limits=Limits(answer_seconds=0.3)))
    choice = WEB.post(server.url + NVIDIA, json=LONG).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith("system=None")


def test_a_body_that_never_comes_is_given_up(live: Make) -> None:
    server = live(EchoEngine(), Settings(limits=Limits(body_seconds=0.3)))
    head = f"POST {NVIDIA} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        started = time.monotonic()
        assert b" 408 " in client.recv(100)
        assert time.monotonic() - started < 20


def test_the_end_waits_for_answers_under_way(live: Make) -> None:
    server = live(EchoEngine(pause=0.02))
    short = {"messages": [{"role": "user", "content": "word " * 30}], "stream": True}
    with WEB.stream("POST", server.url + NVIDIA, json=short, timeout=20) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.server.should_exit = True
        assert list(lines)[-2:] == ["data: [DONE]", ""]
    # refused, or cut off where the kernel had taken it in before the socket closed
    with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
        WEB.get(server.url + "/ping")


class Hasty(PatientProtocol):
    """As in production, but with less patience."""

    head_seconds = 0.3


@pytest.mark.parametrize("said", [b"", b"GET /ping HTTP/1.1\r\nHost: a\r\nX: ", b"GET /pi"])
@pytest.mark.parametrize("before", [b"", b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_head_that_never_ends_is_given_up(live: Make, before: bytes, said: bytes) -> None:
    server = live(EchoEngine(), protocol=Hasty)
    if before and not said:
        return  # an idle connection between requests is kept: that is keep-alive
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        if before:
            client.sendall(before)
            assert b" 200 " in client.recv(1000)
        started = time.monotonic()
        for byte in said:
            client.sendall(bytes([byte]))
        while client.recv(1000):
            pass
        assert 0.2 < time.monotonic() - started < 20


def test_patience_does_not_end_what_is_under_way(live: Make) -> None:
    server = live(EchoEngine(pause=0.05), protocol=Hasty)
    with httpx.Client(timeout=60) as client:
        for _ in range(2):
            answer = client.post(server.url + NVIDIA, json={**LONG, "max_tokens": 20})
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() > 0.5


def test_health_answers_while_images_are_read(live: Make) -> None:
    """Reading is off the event loop: a request that is stuck in it blocks nobody."""
    healthy = threading.Event()

    class Stuck(EchoEngine):
        def generate(self, requests):  # type: ignore[no-untyped-def]
            assert healthy.wait(20), "the event loop was blocked"
            return super().generate(requests)

    server = live(Stuck())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(WEB.post, server.url + NVIDIA, json=LONG, timeout=30)
        assert WEB.get(f"{server.url}/v1/health/ready", timeout=10).status_code == 200
        healthy.set()
        assert asked.result().status_code == 200


class Fast:
    """A stream that says a great deal at once, from its own caller's thread."""

    def __init__(self, words: int) -> None:
        self.words = words

    def listen(self, heard: Callable[[Chunk], None]) -> None:
        for number in range(self.words):
            heard(Chunk(f"{number} "))
        finish: Finish = "stop"
        heard(Chunk("", finish, Usage(1, self.words)))

    def cancel(self) -> None:
        raise AssertionError("it had ended")


def test_a_slow_listener_holds_one_chunk_per_answer() -> None:
    async def hear() -> list[tuple[int, Chunk]]:
        listener = Listener([Fast(1000), Fast(10)])
        return [item async for item in listener]

    said = asyncio.run(hear())
    assert [index for index, _ in said] == [0, 1]
    assert said[0][1].text == "".join(f"{number} " for number in range(1000))
    assert said[1][1].usage == Usage(1, 10)


def test_the_double_says_what_it_was_given() -> None:
    """The test engine itself: iterating and listening give the same."""
    from neva.engine.protocol import Request, collect
    from neva.prompts.conversation import ask

    request = Request(ask("Hi", images=0))
    (stream,) = EchoEngine().generate([request])
    text, last = collect(stream)
    assert text.strip() == heard_as(request)
    assert last.finish == "stop"


def test_neva_serve_runs_on_the_fast_loop() -> None:
    pytest.importorskip("uvloop")
    server, loops = server_for(create_app(EchoEngine())), list[str]()

    def began() -> None:
        loops.append(type(asyncio.get_running_loop()).__module__)
        server.should_exit = True

    with bind("127.0.0.1", 0) as bound:
        listen(server, bound, began)
    assert loops == ["uvloop"]
