"""`--upstream` in an operator's eyes: what our health, metrics and log say when it is sick."""

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from echo_engine import wait_until
from server_house import CHAT, House

from neva.engine.remote import RemoteEngine
from neva.server.logs import JsonLines
from neva.server.settings import Settings

FAULTS: dict[str, Any] = {
    "busy": (429, {"Retry-After": "7"}, {"error": {"message": "at inner-host"}}),
    "refused": (400, {}, {"error": {"message": "too long"}}),
    "broken": (500, {}, {"error": {"message": "at inner-host"}}),
}
CONTENT = {"number": 5, "list": [{"type": "text", "text": "x"}], "fine": "well"}


class Sick(BaseHTTPRequestHandler):
    """Answers as the question says."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """The list of models."""
        self.server.state.asked_by = self.headers["Authorization"]  # type: ignore[attr-defined]
        time.sleep(self.server.state.delay)  # type: ignore[attr-defined]
        models = [{"id": name} for name in self.server.state.models]  # type: ignore[attr-defined]
        self._tell(200, {}, json.dumps({"data": models}))

    def do_POST(self) -> None:
        """A fault, or one piece and the end."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        word = asked["messages"][-1]["content"]
        if word in FAULTS:
            status, headers, body = FAULTS[word]
            self._tell(status, headers, json.dumps(body))
            return
        piece = {"choices": [{"delta": {"content": CONTENT[word]}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}
        events = "".join(f"data: {json.dumps(one)}\n\n" for one in (piece, usage))
        self._tell(200, {}, events + "data: [DONE]\n\n")

    def _tell(self, status: int, headers: dict[str, str], body: str) -> None:
        with suppress(OSError):  # who asked has hung up
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())


@pytest.fixture
def sick() -> Iterator[SimpleNamespace]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sick)
    state = SimpleNamespace(models=["m"], delay=0.0, port=server.server_address[1])
    server.state = state  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def house(sick: SimpleNamespace, house_of: Callable[..., House]) -> House:
    url = f"http://127.0.0.1:{sick.port}"
    return house_of(Settings(), RemoteEngine(url, patience=0, discreet=True))


def figures(house: House) -> dict[str, float]:
    lines = house.client.get("/metrics").text.splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def test_name_and_password_of_the_address_are_sent(sick: SimpleNamespace) -> None:
    RemoteEngine(f"http://ann:p%40ss@127.0.0.1:{sick.port}").close()
    assert sick.asked_by == "Basic " + base64.b64encode(b"ann:p@ss").decode()
    RemoteEngine(f"http://ann:pass@127.0.0.1:{sick.port}", key="sk").close()
    assert sick.asked_by == "Bearer sk"


@pytest.mark.parametrize("stream", [False, True])
def test_a_busy_one_is_429_with_its_own_time(house: House, stream: bool) -> None:
    told = house.ask("busy", CHAT, stream=stream)
    assert (told.status_code, told.headers["retry-after"]) == (429, "7")
    assert told.json()["error"]["type"] == "rate_limit_error" and "inner-host" not in told.text
    broken = house.ask("broken", CHAT, stream=stream)
    assert broken.status_code == 503 and int(broken.headers["retry-after"]) > 0


@pytest.mark.parametrize("word", ["number", "list"])
def test_a_piece_that_is_no_text_is_its_fault_not_ours(house: House, word: str) -> None:
    assert house.ask(word, CHAT).status_code == 503
    assert house.text("fine", CHAT) == "well"


def test_failures_make_no_server_look_quick_and_askers_raise_no_alarm(house: House) -> None:
    statuses = [house.ask(word, CHAT).status_code for word in ("fine", *FAULTS)]
    assert statuses == [200, 429, 400, 503]
    told, label = figures(house), '{model_name="m"}'
    for name in ("time_to_first_token", "request_prefill_time", "e2e_request_latency"):
        assert told[f"{name}_seconds_count{label}"] == 1
    assert told[f"request_prompt_tokens_count{label}"] == 1
    error = '{finished_reason="error",model_name="m"}'
    assert told[f"request_finish_total{error}"] == 3
    assert told[f"request_failure_total{error}"] == 1, "NevaEngineFails is for what is broken"
    assert told["neva_requests_refused_total"] == 1


def test_its_lines_in_the_log_have_the_requests_id(house: House) -> None:
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonLines().format(record)))

    kept, logger = Kept(), logging.getLogger("neva.engine")
    logger.addHandler(kept)
    try:
        told = house.ask("broken", CHAT)
    finally:
        logger.removeHandler(kept)
    assert [line.get("request_id") for line in lines] == [told.headers["x-request-id"]]


def test_ready_only_while_it_would_answer(
    house: House, sick: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neva.server.desk.ABLE_SECONDS", 0.0)
    monkeypatch.setattr("neva.engine.remote.ABLE_S", 0.2)

    def status() -> int:
        return house.client.get("/v1/health/ready").status_code

    assert status() == 200
    sick.delay = 1.0
    assert wait_until(lambda: status() == 503), "a silent one answers nobody"
    sick.delay, sick.models = 0.0, ["another"]
    assert status() == 503, "it was started again with another model"
    assert house.client.get("/v1/health/live").status_code == 200
    sick.models = ["another", "m"]
    assert wait_until(lambda: status() == 200)
