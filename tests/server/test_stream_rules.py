"""The stream rules that keep every known client alive, each literally."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from echo_engine import EchoEngine
from server_house import CHAT, NVIDIA, House

from neva.server.sse import event

ASKED = {"messages": [{"role": "user", "content": "one two\nthree ü"}], "seed": 0}


def streamed(house: House, path: str, **fields: Any) -> str:
    response = house.client.post(path, json={**ASKED, "stream": True, **fields})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return response.content.decode()


def chunks(text: str) -> list[dict[str, Any]]:
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


@pytest.fixture(params=[NVIDIA, CHAT])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def slow(house_of: Callable[..., House]) -> House:
    """Words come one by one, so that there are many chunks."""
    return house_of(engine=EchoEngine(pause=0.002))


def test_rule_1_content_is_a_string_in_every_chunk(slow: House, path: str) -> None:
    said = chunks(streamed(slow, path))
    assert len(said) > 3
    assert all(isinstance(chunk["choices"][0]["delta"]["content"], str) for chunk in said)
    assert said[0]["choices"][0]["delta"]["role"] == "assistant"


def test_rule_2_finish_reason_is_on_the_last_chunk_only(slow: House, path: str) -> None:
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks(streamed(slow, path))]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}


def test_rule_3_usage_comes_with_the_finish(slow: House, path: str) -> None:
    said = chunks(streamed(slow, path))
    usage = said[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert not any("usage" in chunk for chunk in said[:-1])


def test_rule_4_no_choices_only_for_those_who_ask(slow: House, path: str) -> None:
    assert all(chunk["choices"] for chunk in chunks(streamed(slow, path)))
    asked = chunks(streamed(slow, path, stream_options={"include_usage": True}))
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["total_tokens"] > 0
    assert all(chunk["choices"] for chunk in asked[:-1])


def test_rule_4_at_openai_usage_is_told_once(slow: House) -> None:
    """LangChain adds up what it finds; every other chunk says null, as at OpenAI."""
    options = {"include_usage": True}
    whole = slow.client.post(CHAT, json={**ASKED, "n": 2}).json()["usage"]
    asked = chunks(streamed(slow, CHAT, stream_options=options, n=2))
    assert asked[-1]["usage"] == whole
    assert len(asked) > 3 and all(chunk["usage"] is None for chunk in asked[:-1])
    nvidias = chunks(streamed(slow, NVIDIA, stream_options=options))
    assert nvidias[-1]["usage"] == nvidias[-2]["usage"], "rule 3 holds there whatever is asked"


def test_rule_5_one_line_of_json_per_event_and_no_comments(slow: House, path: str) -> None:
    for told in streamed(slow, path).removesuffix("\n\n").split("\n\n"):
        assert told.startswith("data: ")
        assert len(told.splitlines()) == 1


def test_rule_5_holds_for_every_kind_of_line_break() -> None:
    text = "".join(map(chr, (*range(0x20), 0x85, 0x2028, 0x2029))) + "ü 🦉"
    told = event({"text": text}).decode()
    assert len(told.splitlines()) == 2
    assert json.loads(told.removeprefix("data: "))["text"] == text


def test_streamed_is_whole(slow: House, path: str) -> None:
    whole = slow.client.post(path, json=ASKED).json()
    said = chunks(streamed(slow, path))
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in said)
    assert text == whole["choices"][0]["message"]["content"]
    assert said[-1]["usage"] == whole["usage"]
    assert len({chunk["id"] for chunk in said}) == 1
    assert {chunk["object"] for chunk in said} == {"chat.completion.chunk"}
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["role"] == "assistant"


def test_choices_are_told_apart(slow: House) -> None:
    said = chunks(streamed(slow, CHAT, n=3))
    texts = [
        "".join(c["choices"][0]["delta"]["content"] for c in said if c["choices"][0]["index"] == i)
        for i in range(3)
    ]
    assert [text.rsplit("seed=", 1)[1].strip() for text in texts] == ["0", "1", "2"]
    assert sum("usage" in chunk for chunk in said) == 1


def test_stop_and_max_tokens(slow: House, path: str) -> None:
    def told(**fields: Any) -> tuple[str, str]:
        choice = slow.client.post(path, json={**ASKED, **fields}).json()["choices"][0]
        return choice["message"]["content"], choice["finish_reason"]

    whole, _ = told()
    assert told(stop="two") == (whole[: whole.index("two")], "stop")
    assert told(stop=["zzz", "two"]) == (whole[: whole.index("two")], "stop")
    assert told(max_tokens=2) == ("system=None | ", "length")


def test_an_error_before_the_first_word_is_a_status(
    house_of: Callable[..., House], path: str
) -> None:
    house = house_of(engine=EchoEngine(fail_after=0))
    for stream in (False, True):
        response = house.client.post(path, json={**ASKED, "stream": stream})
        assert response.status_code == 503
        assert response.json()["error"]["message"] == "the engine restarted; try again"


class Particular(EchoEngine):
    """It fails for what is asked."""

    asker = True


@pytest.mark.parametrize("url", [NVIDIA, CHAT, "/v1/responses"])
def test_what_the_asker_must_change_is_400(house_of: Callable[..., House], url: str) -> None:
    house = house_of(engine=Particular(fail_after=0))
    for stream in (False, True):
        response = house.client.post(url, json={**ASKED, "input": "Hi", "stream": stream})
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"
    late = house_of(engine=Particular(pause=0.01, fail_after=3))
    if url != "/v1/responses":
        error = chunks(streamed(late, url))[-1]["error"]
        assert (error["code"], error["type"]) == (400, "invalid_request_error")


def test_an_error_after_it_is_told_in_the_stream(house_of: Callable[..., House], path: str) -> None:
    house = house_of(engine=EchoEngine(pause=0.01, fail_after=3))
    said = chunks(streamed(house, path))
    assert said[-1]["error"]["message"] == "the engine restarted; try again"
    assert said[-1]["choices"][0]["delta"]["content"] == ""
    assert said[-1]["choices"][0]["finish_reason"] == "error"
