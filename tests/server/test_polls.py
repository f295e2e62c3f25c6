"""202 and asking again: for clients that ask for it, and for nobody else."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from echo_engine import EchoEngine, wait_until
from server_house import NVIDIA, WEB, House, Live
from starlette.requests import Request

from neva.server.auth import Key, Keys, hashed
from neva.server.errors import ApiError
from neva.server.polls import Polls
from neva.server.quota import Place
from neva.server.settings import Settings

HI = {"messages": [{"role": "user", "content": "Hi"}]}
STATUS = "/v2/nvcf/pexec/status/"


def test_without_the_header_one_waits(house_of: Callable[..., House]) -> None:
    assert house_of(engine=EchoEngine(pause=0.05)).client.post(NVIDIA, json=HI).status_code == 200


def test_a_slow_answer_is_asked_for_again(house_of: Callable[..., House]) -> None:
    client = house_of(engine=EchoEngine(pause=0.05)).client
    first = client.post(NVIDIA, json=HI, headers={"NVCF-POLL-SECONDS": "0"})
    assert (first.status_code, first.content) == (202, b"")
    assert first.headers["nvcf-status"] == "pending-evaluation"
    path = STATUS + first.headers["nvcf-reqid"]
    assert client.get(path).status_code == 202
    last = client.get(path, headers={"NVCF-POLL-SECONDS": "5"})
    assert last.status_code == 200
    assert last.headers["nvcf-status"] == "fulfilled"
    assert last.json()["choices"][0]["message"]["content"].startswith("system=None")
    assert client.get(path).status_code == 404, "an answer is given once"


def test_a_quick_answer_comes_at_once_and_streams_never_poll(house: House) -> None:
    headers = {"NVCF-POLL-SECONDS": "5"}
    assert house.client.post(NVIDIA, json=HI, headers=headers).status_code == 200
    streamed = house.client.post(NVIDIA, json={**HI, "stream": True}, headers=headers)
    assert streamed.text.endswith("data: [DONE]\n\n")


def test_errors_come_through(house_of: Callable[..., House]) -> None:
    client = house_of(engine=EchoEngine(pause=0.05, fail_after=1)).client
    first = client.post(NVIDIA, json=HI, headers={"NVCF-POLL-SECONDS": "0"})
    path = STATUS + first.headers["nvcf-reqid"]
    assert client.get(path, headers={"NVCF-POLL-SECONDS": "5"}).status_code == 503


@pytest.mark.parametrize("seconds", ["-1", "soon", "10000", "1.5", "", "９", "9" * 400])
def test_nonsense_is_400(house: House, seconds: str) -> None:
    headers = {"NVCF-POLL-SECONDS": seconds.encode()}
    assert house.client.post(NVIDIA, json=HI, headers=headers).status_code == 400


def test_another_key_gets_nothing(house_of: Callable[..., House]) -> None:
    keys = Keys().with_key("ann", "ann-key").with_key("bob", "bob-key")
    client = house_of(Settings(keys=keys), EchoEngine(pause=0.05)).client
    ann, bob = ({"authorization": f"Bearer {name}-key"} for name in ("ann", "bob"))
    first = client.post(NVIDIA, json=HI, headers={**ann, "NVCF-POLL-SECONDS": "0"})
    path = STATUS + first.headers["nvcf-reqid"]
    assert client.get(path, headers=bob).status_code == 404
    assert wait_until(lambda: client.get(path, headers=ann).status_code == 200)


def test_its_tokens_are_counted_and_logged_once(
    house_of: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "neva")
    client = house_of(engine=EchoEngine(pause=0.05)).client
    first = client.post(NVIDIA, json=HI, headers={"NVCF-POLL-SECONDS": "0"})
    path = STATUS + first.headers["nvcf-reqid"]
    last = client.get(path, headers={"NVCF-POLL-SECONDS": "20"})
    usage = last.json()["usage"]
    lines = [vars(r) for r in caplog.records if r.getMessage() == "request"]
    assert [(line["status"], line.get("completion_tokens")) for line in lines] == [
        (202, None),
        (200, usage["completion_tokens"]),
    ]
    assert (lines[1]["prompt_tokens"], lines[1]["finish"]) == (usage["prompt_tokens"], "stop")
    text = client.get("/metrics").text
    for name in ("prompt_tokens", "completion_tokens"):
        metric = name.replace("completion", "generation")
        assert f'\n{metric}_total{{model_name="echo"}} {usage[name]:.1f}\n' in text
    assert 'request_success_total{finished_reason="stop",model_name="echo"} 1.0' in text


def test_an_answer_that_nobody_fetches_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    """By the id of the request that asked for it, when it is forgotten."""
    caplog.set_level("INFO", "neva")

    async def abandon() -> None:
        polls, told = Polls(kept=0.0), {"completion_tokens": 3}

        async def work(tell: dict[str, Any]) -> dict[str, Any]:
            await asyncio.sleep(0.01)
            tell.update(told)
            return {}

        state = {"owner": "ann", "request_id": "mine", "place": Place()}
        http = Request({"type": "http", "headers": [], "state": state})
        assert (await polls.begin(http, work, 0)).status_code == 202
        await asyncio.sleep(0.1)
        with pytest.raises(ApiError, match="not there"):
            await polls.collect(http, "any", 0)

    asyncio.run(abandon())
    (record,) = [r for r in caplog.records if r.getMessage() == "answer never asked for again"]
    assert (record.request_id, record.owner, record.completion_tokens) == ("mine", "ann", 3)


def test_its_making_holds_the_keys_place(house_of: Callable[..., House]) -> None:
    """Or 202 would be the way around a key's limit. Asking again is possible all the same."""
    keys = Keys((Key("ann", hashed("a"), running=1), Key("bob", hashed("b"), running=1)))
    house = house_of(Settings(keys=keys), EchoEngine(pause=0.05))
    ann, bob = ({"authorization": f"Bearer {key}", "NVCF-POLL-SECONDS": "0"} for key in "ab")
    first = house.client.post(NVIDIA, json=HI, headers=ann)
    more = [house.client.post(NVIDIA, json=HI, headers=ann).status_code for _ in range(5)]
    assert (first.status_code, more) == (202, [429] * 5)
    assert house.client.post(NVIDIA, json=HI, headers=bob).status_code == 202
    path = STATUS + first.headers["nvcf-reqid"]
    assert house.client.get(path, headers=ann).status_code == 202
    assert house.client.get(path, headers={**ann, "NVCF-POLL-SECONDS": "20"}).status_code == 200
    assert len(house.engine.streams) == 2
    assert house.client.post(NVIDIA, json=HI, headers=ann).status_code == 202, "it is free again"


def test_who_left_waits_no_longer(live: Callable[..., Live]) -> None:
    """A client that gave up waiting may ask again at once."""
    keys = Keys((Key("ann", hashed("a"), running=1),))
    server = live(EchoEngine(pause=0.5), Settings(keys=keys))
    ann = {"authorization": "Bearer a"}
    url, long = server.url + NVIDIA, {"messages": [{"role": "user", "content": "word " * 99}]}
    first = WEB.post(url, json=long, headers={**ann, "NVCF-POLL-SECONDS": "0"})
    path = server.url + STATUS + first.headers["nvcf-reqid"]
    with pytest.raises(httpx.ReadTimeout):
        WEB.get(path, headers={**ann, "NVCF-POLL-SECONDS": "600"}, timeout=0.3)
    assert wait_until(lambda: WEB.get(path, headers=ann).status_code == 202)


def test_one_key_may_have_so_many() -> None:
    async def ask() -> list[str]:
        polls, said = Polls(most=2), list[str]()
        for owner in ("ann", "ann", "ann", "bob"):
            state = {"owner": owner, "request_id": "mine", "place": Place()}
            try:
                await polls.begin(Request({"type": "http", "headers": [], "state": state}), wait, 0)
                said.append("taken")
            except ApiError as error:
                said.append(str(error.status_code))
        await polls.close()
        return said

    async def wait(_: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    assert asyncio.run(ask()) == ["taken", "taken", "429", "taken"]


def test_the_end_of_the_server_ends_them() -> None:
    from starlette.testclient import TestClient

    from neva.server.app import create_app

    engine = EchoEngine(pause=10)
    with TestClient(create_app(engine)) as client:
        client.post(NVIDIA, json=HI, headers={"NVCF-POLL-SECONDS": "0"})
        assert wait_until(lambda: bool(engine.streams))
    assert engine.streams[0].cancelled.is_set()
