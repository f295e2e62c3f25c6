"""`neva serve --upstream`: NVIDIA's route, keys and limits in front of another OpenAI server."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from echo_engine import EchoEngine, wait_until
from real_server import free_port
from real_server import serving as really_serving
from rich.console import Console
from server_house import CHAT, NVIDIA, WEB, House, Live, data_uri, png

from neva.commands.opening import open_model
from neva.engine.protocol import EngineInfo
from neva.engine.remote import RemoteEngine
from neva.model.checkpoint import Checkpoint
from neva.server.settings import Settings

QUESTION = f'What is it? <img src="{data_uri(png())}" />'
SAID = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12, "seed": 3}


@pytest.fixture
def behind(live: Callable[..., Live]) -> Iterator[tuple[EchoEngine, Live]]:
    """An engine and the server that it is behind."""
    engine = EchoEngine()
    yield engine, live(engine)


def front(house_of: Callable[..., House], behind: Live, **more: str | None) -> House:
    """The server in front of it, in this process, as the command makes it."""
    engine = RemoteEngine(behind.url, patience=0, discreet=True, **more)  # type: ignore[arg-type]
    return house_of(Settings(), engine)


def test_two_real_servers_one_answer(checkpoint: Path) -> None:
    with ExitStack() as stack:
        back, process = stack.enter_context(really_serving(checkpoint))
        url, _ = stack.enter_context(really_serving(None, "--upstream", back))
        asked = {**SAID, "temperature": 0.7}
        mine, its = (WEB.post(f"{at}{NVIDIA}", json=asked).json() for at in (url, back))
        assert mine["choices"] == its["choices"] and mine["usage"] == its["usage"]
        with WEB.stream("POST", f"{url}{NVIDIA}", json={**asked, "stream": True}) as stream:
            events = [line[6:] for line in stream.iter_lines() if line.startswith("data: ")]
        pieces = [json.loads(event)["choices"] for event in events[:-1]]
        text = "".join(one[0]["delta"].get("content") or "" for one in pieces if one)
        assert (text, events[-1]) == (its["choices"][0]["message"]["content"], "[DONE]")
        (listed,) = WEB.get(f"{url}/v1/models").json()["data"]
        assert listed["id"] == WEB.get(f"{back}/v1/models").json()["data"][0]["id"]
        assert (listed["neva"]["engine"], listed["neva"]["device"]) == ("remote", "remote")
        assert listed["neva"]["weights"] == Checkpoint.open(checkpoint).fingerprint
        process.kill()
        process.wait()
        lost = WEB.post(f"{url}{NVIDIA}", json=asked)
        assert lost.status_code == 503 and "own server did not answer" in lost.text
        assert back.rpartition(":")[2] not in lost.text, "its address is nobody's business"
        assert WEB.get(f"{url}/v1/health/live").status_code == 200


def test_what_it_refuses_is_told_and_what_it_cannot_do(
    house_of: Callable[..., House], live: Callable[..., Live]
) -> None:
    house = front(house_of, live(EchoEngine(context=64)))
    refused = house.ask("word " * 500)
    said = refused.json()["error"]["message"]
    assert (refused.status_code, said) == (400, "the prompt is longer than the context; shorten it")
    for more in ({"logprobs": True}, {"response_format": {"type": "json_object"}}):
        assert house.ask("Hi", CHAT, **more).status_code in (400, 422)
    assert house.text("Hi", CHAT)


def test_pictures_arrive_as_they_were_read(
    behind: tuple[EchoEngine, Live], house_of: Callable[..., House]
) -> None:
    """Not the bytes that were sent: what lies behind gets clean PNGs only."""
    engine, live = behind
    house = front(house_of, live)
    text = house.text([
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": data_uri(png(9, 7, (0, 9, 200)))}},
    ], CHAT)  # fmt: skip
    assert "[(9, 7) [0, 9, 200]]" in text or "[0, 9, 200]" in text
    assert len(engine.streams[-1].request.images) == 1


def test_an_answers_beginning_is_gone_on_with(
    behind: tuple[EchoEngine, Live], house_of: Callable[..., House]
) -> None:
    engine, live = behind
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}]
    front(house_of, live).client.post(CHAT, json={"messages": talk}).raise_for_status()
    last = engine.streams[-1].request.conversation.turns[-1]
    assert (last.role, last.text) == ("assistant", "Well,")


def test_who_leaves_ends_the_answer_behind(live: Callable[..., Live]) -> None:
    slow = EchoEngine(pause=0.2)
    back = live(slow)
    face = live(RemoteEngine(back.url, patience=0, discreet=True))
    body = {"messages": [{"role": "user", "content": "word " * 60}], "stream": True}
    with httpx.stream("POST", f"{face.url}{NVIDIA}", json=body, timeout=30) as stream:
        next(stream.iter_lines())
    assert wait_until(lambda: slow.streams[-1].ended.is_set(), 10)
    assert slow.streams[-1].cancelled.is_set()


def test_a_key_of_its_own(live: Callable[..., Live], house_of: Callable[..., House]) -> None:
    from neva.server.auth import Keys

    back = live(EchoEngine(), Settings(keys=Keys().with_key("front", "s3cret-of-the-front")))
    with pytest.raises(Exception, match="401"):
        RemoteEngine(back.url)
    assert front(house_of, back, key="s3cret-of-the-front").text("Hi")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--upstream", "ftp://x"), 1, "not an http address"),
        (("--upstream", "{free}"), 1, "no OpenAI-compatible server at"),
        (("--upstream", "{free}", "--precision", "int8"), 2, "of a model of our own"),
        (("--upstream-name", "m"), 2, "needs --upstream"),
    ],
)
def test_what_cannot_work_is_told_at_the_start(
    words: tuple[str, ...], code: int, told: str
) -> None:
    filled = [word.format(free=f"http://127.0.0.1:{free_port()}") for word in words]
    command = [sys.executable, "-m", "neva", "serve", "--port", str(free_port()), *filled]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code, ended.stderr
    assert told in " ".join(ended.stderr.replace("│", " ").split())


def test_a_figure_tells_which_weights_a_server_had(live: Callable[..., Live]) -> None:
    """Else a model that was swapped behind its URL would go on with the other's answers."""

    class Weighed(EchoEngine):
        @property
        def info(self) -> EngineInfo:
            return replace(super().info, weights="0123456789abcdef")

    for engine, known in ((Weighed(), {"weights": "0123456789abcdef"}), (EchoEngine(), {})):
        url = live(engine).url
        opened, identity = open_model(None, url, None, None, None, Console(stderr=True))
        assert identity == {"model": "echo", "url": url, **known}
        opened.close()
