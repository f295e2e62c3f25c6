"""The Responses API: conversations that go on by an id, belong to a key, and survive restarts."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from echo_engine import EchoEngine
from server_house import House, data_uri, png

from neva.server.auth import Keys
from neva.server.settings import Settings
from neva.server.store import Store, Stored, StoreError

RESPONSES = "/v1/responses"
PICTURE = {"type": "input_image", "image_url": data_uri(png()), "detail": "auto"}
ANN, BOB = {"authorization": "Bearer ann-key"}, {"authorization": "Bearer bob-key"}


def say(house: House, said: Any, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"input": said, "seed": 0, **fields}
    response = house.client.post(RESPONSES, json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def text(answer: Any) -> str:
    (item,) = answer["output"]
    (part,) = item["content"]
    assert (item["type"], item["role"], part["type"]) == ("message", "assistant", "output_text")
    return str(part["text"])


def test_one_turn(house: House) -> None:
    answer = say(house, "Hi", instructions="Be brief.", metadata={"a": "b"})
    assert (answer["object"], answer["status"]) == ("response", "completed")
    assert text(answer) == "system='Be brief.' | user: 'Hi' | seed=0 "
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert answer["metadata"] == {"a": "b"}
    assert answer["store"] is True


def test_turn_two_knows_turn_one_and_its_picture(house: House) -> None:
    question = {"role": "user", "content": [{"type": "input_text", "text": "What?"}, PICTURE]}
    first = say(house, [question], instructions="Once.")
    second = say(house, "And now?", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    conversation = house.engine.streams[1].request.conversation
    assert [turn.role for turn in conversation.turns] == ["user", "assistant", "user"]
    assert conversation.turns[1].text == text(first)
    assert house.engine.streams[1].request.images[0].size == (8, 6)
    assert conversation.system is None, "instructions are not inherited"
    third = say(house, "More", previous_response_id=second["id"])
    assert len(house.engine.streams[2].request.conversation.turns) == 5
    assert third["id"] != second["id"]


def test_a_conversation_may_be_sent_whole(house: House) -> None:
    first = say(house, "Hi", store=False)
    said = [
        {"role": "user", "content": "Hi"},
        *first["output"],
        {"role": "user", "content": "And?"},
    ]
    answer = say(house, said)
    assert "assistant: " in text(answer) and "'And?'" in text(answer)


def test_not_stored_is_not_found(house: House) -> None:
    answer = say(house, "Hi", store=False)
    assert answer["store"] is False
    assert house.client.get(f"{RESPONSES}/{answer['id']}").status_code == 404
    body = {"input": "Hi", "previous_response_id": answer["id"]}
    refused = house.client.post(RESPONSES, json=body)
    assert refused.status_code == 404
    assert refused.json()["error"]["param"] == "previous_response_id"


def test_showing_listing_deleting(house: House) -> None:
    answer = say(house, "Hi")
    path = f"{RESPONSES}/{answer['id']}"
    assert house.client.get(path).json() == answer
    items = house.client.get(f"{path}/input_items").json()["data"]
    assert (items[0]["role"], items[0]["content"][0]["text"]) == ("user", "Hi")
    assert house.client.delete(path).json()["deleted"] is True
    assert house.client.delete(path).status_code == 404
    assert house.client.get(path).status_code == 404


def test_events(house_of: Callable[..., House]) -> None:
    house = house_of(engine=EchoEngine(pause=0.02))
    whole = say(house, "Hi")
    raw = house.client.post(RESPONSES, json={"input": "Hi", "seed": 0, "stream": True}).text
    events = []
    for told in raw.removesuffix("\n\n").split("\n\n"):
        name, data = told.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    end = ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert kinds[-4:] == end
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert len(deltas) > 1, "in pieces; on a busy machine several words are one"
    assert "".join(deltas) == text(whole) == text(events[-1]["response"])
    stored = house.client.get(f"{RESPONSES}/{events[0]['response']['id']}").json()
    assert stored == events[-1]["response"]


def test_an_answer_cut_short_says_so(house: House) -> None:
    answer = say(house, "Hi", max_output_tokens=2)
    assert answer["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_failure_in_the_stream(house_of: Callable[..., House]) -> None:
    house = house_of(engine=EchoEngine(pause=0.01, fail_after=3))
    raw = house.client.post(RESPONSES, json={"input": "Hi", "stream": True}).text
    last = json.loads(raw.strip().splitlines()[-1].removeprefix("data: "))
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["message"] == "the engine restarted; try again"
    assert house.client.get(f"{RESPONSES}/{last['response']['id']}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": 5},
        {"input": "Hi", "background": True},
        {"input": "Hi", "tools": [{"type": "web_search"}]},
        {"input": "Hi", "max_output_tokens": 0},
        {"input": "Hi", "store": "yes"},
        {"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
        {"input": "Hi", "conversation": "conv_1"},
        {"input": "Hi", "conversation": {"id": "conv_1"}},
        {"input": "Hi", "prompt": {"id": "pmpt_1"}},
        {"input": "Hi", "truncation": "auto"},
        {"input": "Hi", "metadata": {str(number): "" for number in range(17)}},
        {"input": "Hi", "metadata": {"k" * 65: ""}},
        {"input": "Hi", "metadata": {"k": "v" * 513}},
        {"input": "Hi", "metadata": {"k": 5}},
    ],
)
def test_what_cannot_be_asked(house: House, body: dict[str, Any]) -> None:
    response = house.client.post(RESPONSES, json=body)
    assert response.status_code == 422
    assert response.json()["error"]["message"]


def test_harmless_values_are_let_through(house: House) -> None:
    metadata = {"k" * 64: "v" * 512, **{str(number): "" for number in range(15)}}
    nothing = {"conversation": None, "prompt": None, "background": False, "top_logprobs": 0}
    answer = say(house, "Hi", metadata=metadata, truncation="disabled", **nothing)
    assert answer["metadata"] == metadata


def test_each_key_has_its_own(house_of: Callable[..., House]) -> None:
    keys = Keys().with_key("ann", "ann-key").with_key("bob", "bob-key")
    house = house_of(Settings(keys=keys))
    first = say(house, "Ann's", ANN)
    say(house, "Bob's", BOB)
    path = f"{RESPONSES}/{first['id']}"
    body = {"input": "Hi", "previous_response_id": first["id"]}
    assert house.client.get(path, headers=BOB).status_code == 404
    assert house.client.delete(path, headers=BOB).status_code == 404
    assert house.client.post(RESPONSES, json=body, headers=BOB).status_code == 404
    exported = house.client.get(f"{RESPONSES}/export", headers=BOB).text.splitlines()
    assert [json.loads(line)["input"][0]["content"] for line in exported] == ["Bob's"]
    assert house.client.delete(RESPONSES, headers=BOB).json()["deleted"] == 1
    assert house.client.get(path, headers=ANN).status_code == 200


def test_it_survives_a_restart(house_of: Callable[..., House], tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    first = say(house_of(settings), "Hi")
    again = house_of(settings)
    assert again.client.get(f"{RESPONSES}/{first['id']}").json() == first
    answer = say(again, "And?", previous_response_id=first["id"])
    assert "'Hi'" in text(answer)
    assert (tmp_path / "responses.sqlite").stat().st_mode & 0o077 == 0


def test_a_store_that_fails_costs_no_answer(house_of: Callable[..., House], tmp_path: Path) -> None:
    house = house_of(Settings(data=tmp_path))
    with sqlite3.connect(tmp_path / "responses.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = say(house, "Hi")
        other.rollback()
    assert text(answer)
    assert answer["store"] is False
    assert house.client.get(f"{RESPONSES}/{answer['id']}").status_code == 404


def stored(name: str, parent: str | None = None) -> Stored:
    return Stored(name, parent, [{"role": "user", "content": name}], {"output": []})


def test_store_expires_and_forgets(tmp_path: Path) -> None:
    now = 1000.0
    store = Store(tmp_path / "s.sqlite", keep_days=1, clock=lambda: now)
    store.save("ann", stored("one"))
    now += 24 * 3600 - 1
    assert store.find("ann", "one") is not None
    store.save("ann", stored("two", "one"))
    assert [s.id for s in store.chain("ann", "two") or []] == ["one", "two"]
    now += 2
    assert store.find("ann", "one") is None
    assert store.chain("ann", "two") is None, "a part of the conversation is gone"
    store.save("ann", stored("three"))
    held = [(one.responses, one.threads, one.latest, one.expires) for one in store.owners()]
    assert held == [(2, 2, now, now + 24 * 3600 - 2)]
    assert (store.expire(), store.expire()) == (1, 0)
    store.close()
    with sqlite3.connect(tmp_path / "s.sqlite") as db:
        assert db.execute("SELECT count(*) FROM response").fetchone() == (2,)


def test_store_exports_in_pages() -> None:
    store = Store(None, clock=lambda: 5.0)
    for number in range(40):
        store.save("ann", stored(f"{number:02}"))
    assert [s.id for s in store.export("ann")] == [f"{number:02}" for number in range(40)]
    assert list(store.export("bob")) == []


def test_a_damaged_store_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match=r"s\.sqlite"):
        Store(tmp_path / "s.sqlite")
