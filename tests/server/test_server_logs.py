"""What the log of a hostile session says: every request by its id, and nothing of what was sent."""

import base64
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from real_server import serving
from server_house import CHAT, NVIDIA, WEB, data_uri, png

from neva.server.logs import JsonLines, Lines
from neva.server.porter import harmless
from neva.server.tracing import UNDER_WAY, Trace

KEY = "nvapi-" + "THISKEYISSECRET0123456789"
GUESS = "nvapi-" + "GUESSEDKEY0123456789abcdef"
SAID = "the patient in this picture is Ann Example"
PICTURE = data_uri(png(60, 40, (1, 2, 3)))
BROKEN = "data:image/png;base64," + base64.b64encode(b"broken " + SAID.encode()).decode()


def chat(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 4, **fields}


def hostile_session(url: str) -> list[int]:
    """Right and wrong requests of every kind; their statuses."""
    mine = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    picture = [{"type": "image_url", "image_url": PICTURE}, {"type": "text", "text": SAID}]
    bodies: list[Any] = [
        chat(SAID),
        chat(picture, stream=True),
        chat(f'{SAID} <img src="{PICTURE}" />'),
        chat([{"type": "image_url", "image_url": BROKEN}]),
        chat(f'<img src="{BROKEN}" />'),
        chat(f'<img src="http://{KEY}@169.254.169.254/{SAID}" />'),
        chat(f'<img src="data:image/png;asset_id,{GUESS}" />'),
        chat(SAID, temperature=SAID),
        chat(SAID * 10_000),
        chat({SAID: PICTURE}),
        [SAID, PICTURE],
        SAID,
    ]
    ask = [WEB.post(url + path, json=b, headers=mine) for b in bodies for path in (NVIDIA, CHAT)]
    ask += [
        WEB.post(url + CHAT, content=f"{{{SAID}".encode(), headers=mine),
        WEB.post(url + CHAT, json=chat(SAID), headers={"Authorization": f"Bearer {GUESS}"}),
        WEB.post(url + CHAT, json=chat(SAID), headers={"Authorization": GUESS}),
        WEB.get(f"{url}/v1/models/{KEY}", headers=mine),
        WEB.get(f"{url}/{KEY}/{PICTURE[30:80]}?key={KEY}", headers=mine),
        WEB.get(f"{url}/v1/responses/{SAID}", headers=mine),
        WEB.post(f"{url}/v1/responses", json={"input": SAID}, headers=mine),
        WEB.post(f"{url}/v1/responses", json={"input": SAID, "model": SAID}, headers=mine),
        WEB.put(f"{url}/v2/nvcf/uploads/{GUESS}?signature={KEY}", content=png(), headers=mine),
        WEB.get(url + "/v1/metrics", headers={**mine, "x-request-id": f"{SAID}\r\nX: 1"[:42]}),
        WEB.get(url + "/docs", headers={"Host": SAID.replace(" ", "-"), **mine}),
    ]
    with WEB.stream("POST", url + CHAT, json=chat(picture, stream=True), headers=mine):
        pass
    return [answer.status_code for answer in ask]


@pytest.fixture(scope="module")
def session(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[int], str]:
    """The statuses of a hostile session with `neva serve`, and all that it wrote."""
    folder = tmp_path_factory.mktemp("logged")
    env, log = {"NEVA_API_KEY": KEY, "XDG_DATA_HOME": str(folder)}, folder / "log"
    with serving(checkpoint, "--log", "json", env=env, said=log) as (url, process):
        statuses = hostile_session(url)
        process.terminate()
        process.wait(60)
    return statuses, log.read_text()


def test_the_session_was_hostile_and_survived(session: tuple[list[int], str]) -> None:
    statuses, _ = session
    assert {200, 400, 401, 404, 422} <= set(statuses)
    assert max(statuses) < 500


def test_nothing_of_it_is_in_the_log(session: tuple[list[int], str]) -> None:
    _, said = session
    words = ["patient", "Ann", "Example", KEY, KEY[6:20], GUESS, GUESS[6:20], "nvapi"]
    pieces = [uri[at : at + 24] for uri in (PICTURE, BROKEN) for at in range(22, 90, 24)]
    found = [word for word in [*words, *pieces, "base64", "169.254"] if word in said]
    assert found == []
    assert not re.search(r"[A-Za-z0-9+/]{60,}={0,2}", said), "nothing that looks like base64"
    assert "Traceback" not in said


def test_every_request_is_a_json_line_with_its_id(session: tuple[list[int], str]) -> None:
    statuses, said = session
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["message"] == "request"]
    assert len(requests) > len(statuses), "health was asked too"
    assert len({line["request_id"] for line in requests}) == len(requests)
    for line in requests:
        assert {"time", "level", "owner", "method", "path", "status", "seconds"} <= line.keys()
    answered = [line for line in requests if line["status"] == 200 and line["path"] == CHAT]
    assert all(line["completion_tokens"] <= 4 for line in answered if "finish" in line)
    assert {line["path"] for line in requests} > {CHAT, NVIDIA, "/v1/models/{model:path}"}


def record(message: str, **extra: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "name": "asyncio", "levelno": 40, **extra})
    made.levelname = "ERROR"
    return made


def test_only_the_first_line_of_a_foreign_message_is_kept() -> None:
    """asyncio writes an unheard exception with its words on the second line."""
    foreign = record(f"Task exception was never retrieved\nfuture: ValueError({SAID!r})")
    foreign.exc_info = (ValueError, ValueError(SAID), None)
    for form in (JsonLines(), Lines()):
        said = form.format(foreign)
        assert "Task exception was never retrieved" in said and SAID not in said
        assert "\n" not in said


def test_records_made_for_a_request_carry_its_id() -> None:
    before = UNDER_WAY.set(Trace("mine"))
    try:
        assert json.loads(JsonLines().format(record("not stored")))["request_id"] == "mine"
        other = record("request", request_id="its own")
        assert json.loads(JsonLines().format(other))["request_id"] == "its own"
    finally:
        UNDER_WAY.reset(before)
    assert "request_id" not in json.loads(JsonLines().format(record("engine")))


def test_unknown_paths_keep_their_words_only() -> None:
    assert harmless("/v1/completions") == "/v1/completions"
    assert harmless("/v2/embeddings/v1") == "/v2/embeddings/v1"
    assert harmless(f"/v1/{KEY}/x") == "/v1/*/x"
    assert harmless("/" + PICTURE) == "/*/*" or "base64" not in harmless("/" + PICTURE)
    assert harmless("/" + "a" * 100 + "/\x1b[31m/\n") == "/*/*/*"
    assert harmless("/a" * 100).count("/") == 7
