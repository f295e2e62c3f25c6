"""Generated requests, good and bad, over the whole OpenAPI document: never a 5xx.

`pytest -m attack tests/server/test_attack.py`; SECONDS is the time of each run. Corpora of hostile
images and URLs have tests in the default run: test_hostile_images.py and test_fetch.py.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from echo_engine import EchoEngine
from environments import python_with, run
from server_house import CHAT, WEB, Live, serving

from neva.engine import open_engine
from neva.server.auth import Keys
from neva.server.settings import Settings

pytestmark = [pytest.mark.attack, pytest.mark.timeout(3600)]
SCHEMATHESIS = "4.32.5"
SECONDS = os.environ.get("SECONDS", "60")
CHECKS = (
    "not_a_server_error",
    "unsupported_method",
    "content_type_conformance",
    "response_schema_conformance",
    "status_code_conformance",
)
KEY = "nvapi-attack"


def attack(live: Live, seed: int, *options: str) -> None:
    """A run of schemathesis; the server must be well after it."""
    tool = python_with("schemathesis", SCHEMATHESIS).parent / "st"
    what = ("--checks", ",".join(CHECKS), "--max-time", SECONDS, "--seed", str(seed))
    how = ("--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--no-color")
    run(tool, "run", f"{live.url}/openapi.json", *what, *how, *options)
    mine = {"Authorization": f"Bearer {KEY}"}
    short = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    assert WEB.post(live.url + CHAT, json=short, headers=mine).status_code == 200
    text = WEB.get(f"{live.url}/metrics", headers=mine).text
    assert 'neva_http_responses_total{route="/v1/chat/completions",status="200"}' in text
    assert 'status="5' not in text, [line for line in text.splitlines() if 'status="5' in line]


def test_open_server() -> None:
    with serving(EchoEngine()) as live:
        attack(live, 1)


def test_server_with_keys() -> None:
    """With a valid key and, since schemathesis drops and breaks it too, without one."""
    settings = Settings(keys=Keys().with_key("ann", KEY))
    with serving(EchoEngine(), settings) as live:
        attack(live, 2, "-H", f"Authorization: Bearer {KEY}")


@contextmanager
def real(checkpoint: Path, data: Path) -> Iterator[Live]:
    engine = open_engine(checkpoint, "openvino", "fp32", cache_mib=64)
    try:
        with serving(engine, Settings(data=data)) as live:
            yield live
    finally:
        engine.close()


def test_real_engine(checkpoint: Path, tmp_path: Path) -> None:
    with real(checkpoint, tmp_path) as live:
        attack(live, 3)
