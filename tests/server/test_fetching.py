"""A slow host delays who asked for its pictures, and nobody else."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from threading import Event, Semaphore

import httpx
import pytest
from echo_engine import EchoEngine, wait_until
from server_house import CHAT, NVIDIA, WEB, House, Live, png

from neva.server import content
from neva.server.fetch import Fetcher, Target
from neva.server.settings import Limits, Settings

ADDRESS = "93.184.215.14"
FROM = ("images.example.org",)


class Slow:
    """A host that answers when it is let, and is asked for each picture."""

    def __init__(self) -> None:
        self.let = Event()
        self.asked = Semaphore(0)
        self.count = 0

    def fetch(self, fetcher: Fetcher, url: str, deadline: float | None = None) -> bytes:
        self.count += 1
        self.asked.release()
        assert self.let.wait(60)
        return png(5, 4, (0, 255, 0))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    host = Slow()
    monkeypatch.setattr(Fetcher, "fetch", lambda *given, **named: host.fetch(*given, **named))
    yield host
    host.let.set()


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def body(pictures: int) -> dict[str, object]:
    url = "https://images.example.org/{}.png"
    parts: list[dict[str, object]] = [{"type": "text", "text": "hi"}]
    for number in range(pictures):
        parts.append({"type": "image_url", "image_url": {"url": url.format(number)}})
    return {"messages": [{"role": "user", "content": parts}]}


def ask(server: Live, pictures: int) -> httpx.Response:
    return WEB.post(server.url + CHAT, json=body(pictures))


def test_nobody_else_waits_for_a_slow_host(
    live: Callable[..., Live], slow: Slow, crowd: ThreadPoolExecutor
) -> None:
    server = live(EchoEngine(), Settings(images_from=FROM, limits=Limits(running=8)))
    waiting = [crowd.submit(ask, server, 2) for _ in range(4)]
    for _ in waiting:
        assert slow.asked.acquire(timeout=20)
    started = time.monotonic()
    assert ask(server, 0).status_code == 200
    assert time.monotonic() - started < 5
    refused = ask(server, 1)
    assert refused.status_code == 429 and refused.headers["retry-after"]
    assert not any(one.done() for one in waiting)
    slow.let.set()
    for one in waiting:
        answer = one.result(30).json()["choices"][0]["message"]["content"]
        assert answer.count("[0, 255, 0]") == 2
    assert slow.count == 8
    assert ask(server, 1).status_code == 200


def test_who_leaves_frees_its_thread_when_the_host_is_done(
    live: Callable[..., Live], slow: Slow, crowd: ThreadPoolExecutor
) -> None:
    server = live(EchoEngine(), Settings(images_from=FROM, limits=Limits(running=2)))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + CHAT, json=body(1), timeout=0.5)
    assert slow.asked.acquire(timeout=20)
    assert ask(server, 1).status_code == 429, "its thread still waits"
    assert ask(server, 0).status_code == 200
    slow.let.set()
    assert wait_until(lambda: ask(server, 1).status_code == 200)


def test_what_goes_wrong_is_told_of_its_picture(
    house_of: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(target: Target, timeout: float) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", 1, timeout=1)

    fetcher = partial(Fetcher, find=lambda *_: [ADDRESS], connect=gone)
    monkeypatch.setattr(content, "Fetcher", fetcher)
    house = house_of(Settings(images_from=FROM, limits=Limits(images=3)))
    told = house.client.post(NVIDIA, json=body(2))
    assert told.status_code == 422
    assert told.json()["detail"] == "image 1: the image could not be fetched from its host"


def test_no_more_are_fetched_than_may_be_shown(house_of: Callable[..., House], slow: Slow) -> None:
    slow.let.set()
    house = house_of(Settings(images_from=FROM, limits=Limits(images=3)))
    refused = house.client.post(NVIDIA, json=body(9))
    assert refused.status_code == 422 and "at most 3 images" in refused.json()["detail"]
    assert slow.count == 3


def test_a_stored_conversation_fetches_again(house_of: Callable[..., House], slow: Slow) -> None:
    slow.let.set()
    house = house_of(Settings(images_from=FROM))
    shown = {"type": "input_image", "image_url": "https://images.example.org/a.png"}
    said = [{"role": "user", "content": [shown]}]
    first = house.client.post("/v1/responses", json={"input": said}).json()
    more = {"input": "And?", "previous_response_id": first["id"]}
    assert "[0, 255, 0]" in house.client.post("/v1/responses", json=more).text
    assert slow.count == 2
