"""The end of a server: answers that outlast the drain end properly, and the log tells of it."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from echo_engine import EchoEngine, wait_until
from real_server import serving as really_serving
from server_house import CHAT, WEB, Live, serving

from neva.server.settings import Limits, Settings

LONG = {"messages": [{"role": "user", "content": "word " * 500}], "max_tokens": 1000}
SHORT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.mark.parametrize("stream", [False, True])
def test_who_outlasts_the_drain_gets_what_there_is(live: Callable[..., Live], stream: bool) -> None:
    limits = Limits(running=1)
    server = live(EchoEngine(pause=0.02, context=4096), Settings(limits=limits))
    server.server.config.timeout_graceful_shutdown = 2
    told: dict[str, tuple[int, str]] = {}

    def ask(name: str, **more: object) -> None:
        answer = WEB.post(server.url + CHAT, json={**LONG, **more})
        told[name] = answer.status_code, answer.text

    first = threading.Thread(target=ask, args=("running",), kwargs={"stream": stream})
    second = threading.Thread(target=ask, args=("waiting",))
    first.start()
    ready = server.server.config.app.state.desk.admission  # type: ignore[union-attr]
    assert wait_until(lambda: ready.running == 1)
    second.start()
    assert wait_until(lambda: ready.waiting == 1)
    server.server.should_exit = True
    first.join(20)
    second.join(20)
    status, text = told["running"]
    assert status == 200 and '"finish_reason":"length"' in text and "word" in text
    assert not stream or text.endswith("data: [DONE]\n\n")
    status, text = told["waiting"]
    assert status == 503 and json.loads(text)["detail"] == "the server is shutting down"


def test_beginning_and_end_are_lines_of_the_log(checkpoint: Path, tmp_path: Path) -> None:
    said = tmp_path / "log"
    words = ("--data", str(tmp_path / "data"), "--cache-mib", "64")
    with really_serving(checkpoint, *words, said=said) as (url, process):
        assert WEB.post(url + CHAT, json=SHORT).status_code == 200
        process.terminate()
        assert process.wait(60) == 0
    lines = [json.loads(line) for line in said.read_text().splitlines()]
    told = {line["message"]: line for line in lines}
    assert set(told) == {"listening", "ready", "request", "draining", "ended"}
    assert told["listening"]["url"] == url and told["listening"]["keys"] is False
    assert told["ready"]["seconds"] > 0 and told["draining"]["running"] == 0


def test_a_server_that_still_loads_ends_at_once() -> None:
    never, late = threading.Event(), EchoEngine()

    def open_it() -> EchoEngine:
        never.wait(30)
        return late

    began = time.monotonic()
    with serving(open_it) as server:  # type: ignore[arg-type]
        assert WEB.get(server.url + "/v1/health/live").status_code == 200
        assert WEB.get(server.url + "/v1/health/ready").status_code == 503
    assert time.monotonic() - began < 5
    never.set()
