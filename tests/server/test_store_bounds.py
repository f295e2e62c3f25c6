"""What one key can have stored, and what of it one request brings into memory, has an end."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from echo_engine import EchoEngine
from server_house import House

from neva.engine.protocol import EngineInfo
from neva.server.auth import Keys
from neva.server.errors import ApiError
from neva.server.settings import Limits, Settings
from neva.server.store import Store, Stored, StoreError

RESPONSES = "/v1/responses"
OUTPUT = {"output": [{"content": [{"type": "output_text", "text": "Yes."}]}]}


def stored(name: str, parent: str | None = None, letters: int = 0, **more: Any) -> Stored:
    said = [{"role": "user", "content": "x" * letters}]
    return Stored(name, parent, said, {**OUTPUT, **more})


def names(store: Store, owner: str) -> list[str]:
    return [one.id for one in store.export(owner)]


def test_the_oldest_go_first_and_only_that_keys() -> None:
    now = 0.0
    store = Store(None, clock=lambda: now)
    store.save("bob", stored("his", letters=900), 10_000)
    for number in range(30):
        now += 1
        store.save("ann", stored(f"{number:02}", letters=900), 10_000)
        kept = names(store, "ann")
        assert kept[-1] == f"{number:02}", "the newest is always there"
        assert kept == sorted(kept) and 1 <= len(kept) <= 9
    assert len(kept) >= 8 and kept[0] > "19"
    assert names(store, "bob") == ["his"]


def test_what_is_too_large_by_itself_is_not_stored() -> None:
    store = Store(None)
    store.save("ann", stored("one"), 10_000)
    with pytest.raises(StoreError, match="full"):
        store.save("ann", stored("two", letters=20_000), 10_000)
    assert names(store, "ann") == ["one"]


def test_over_http(house_of: Callable[..., House], tmp_path: Path) -> None:
    keys = Keys().with_key("ann", "ann-key")
    limits = Limits(response_bytes=40_000)
    engine = EchoEngine(context=100_000)
    house = house_of(Settings(keys=keys, data=tmp_path, limits=limits), engine)
    ann = {"authorization": "Bearer ann-key"}

    def say(text: str, **more: Any) -> dict[str, Any]:
        answer = house.client.post(RESPONSES, json={"input": text, **more}, headers=ann)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    first, last = say("First"), None
    for _ in range(40):
        last = say("x" * 2000)["id"]
    assert house.client.get(f"{RESPONSES}/{first['id']}", headers=ann).status_code == 404
    assert house.client.get(f"{RESPONSES}/{last}", headers=ann).status_code == 200
    assert say("x" * 40_000, max_output_tokens=1)["store"] is False
    with sqlite3.connect(tmp_path / "responses.sqlite") as db:
        assert db.execute("SELECT sum(size) FROM response").fetchone()[0] <= 40_000


class Watched(Store):
    """A store that tells how much it has read."""

    def __init__(self) -> None:
        super().__init__(None)
        self.read = 0
        do = self._database.do

        def counted(sql: str, *values: object) -> list[tuple[Any, ...]]:
            rows = do(sql, *values)
            self.read += len(json.dumps(rows))
            return rows

        self._do = counted


def test_a_conversation_reads_what_it_needs_only() -> None:
    store = Watched()
    for number in range(20):
        parent = str(number - 1) if number else None
        store.save("ann", stored(str(number), parent, instructions="i" * 100_000))
    store.read = 0
    chain = store.chain("ann", "19") or []
    assert [one.id for one in chain] == [str(number) for number in range(20)]
    assert {one.text for one in chain} == {"Yes."}
    assert store.read < 10_000


@pytest.mark.parametrize("limits", [Limits(messages=10), Limits(chain_bytes=100_000)])
def test_a_conversation_that_is_too_long_is_not_read(limits: Limits) -> None:
    store = Watched()
    for number in range(20):
        store.save("ann", stored(str(number), str(number - 1) if number else None, 50_000))
    store.read = 0
    with pytest.raises(ApiError) as told:
        store.chain("ann", "19", limits)
    assert told.value.status_code == 422
    assert store.read < 2000
    assert len(store.chain("ann", "1", Limits(messages=4, chain_bytes=200_000)) or []) == 2


def test_it_stops_at_the_limit_of_messages() -> None:
    store = Watched()
    many = [{"role": "user", "content": "x" * 1000}] * 8
    for number in range(5):
        parent = str(number - 1) if number else None
        store.save("ann", Stored(str(number), parent, many, OUTPUT))
    store.read = 0
    with pytest.raises(ApiError, match="messages"):
        store.chain("ann", "4", Limits(messages=12))
    assert store.read < 20_000, "two of five turns"


def test_a_store_of_an_older_release_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE response (id TEXT PRIMARY KEY, owner TEXT NOT NULL, parent TEXT, created"
            " REAL NOT NULL, expires REAL NOT NULL, said TEXT NOT NULL, answer TEXT NOT NULL)"
        )
        said = json.dumps([{"role": "user", "content": "x" * 900}])
        row = ("old", "ann", None, 1.0, 9e9, said, json.dumps(OUTPUT))
        db.execute("INSERT INTO response VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    for _ in range(2):  # a second start finds nothing to do
        store = Store(path)
        store.save("ann", stored("new", "old", 900), 10_000)
        assert [one.text for one in store.chain("ann", "new") or []] == ["Yes.", "Yes."]
        store.close()
    store = Store(path)
    store.save("ann", stored("newer", letters=900), 2500)
    assert names(store, "ann") == ["new", "newer"], "the old one's size is known"


class Grammarian(EchoEngine):
    """It claims that it keeps schemas."""

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, grammar=True)


@pytest.mark.parametrize(
    "more",
    [
        b'"default": NaN',
        b'"default": -Infinity',
        b'"default": 1e999',
        b'"description": "\\ud800"',
        b'"\\udfff": 1, "title": "x"',
        b'"examples": [' + b"[" * 300 + b"]" * 300 + b"]",
    ],
)
@pytest.mark.parametrize("stream", [b"false", b"true"])
def test_what_cannot_be_shown_again_is_refused(
    house_of: Callable[..., House], more: bytes, stream: bytes
) -> None:
    house = house_of(engine=Grammarian())
    schema = b'{"type": "string", %s}' % more
    form = b'{"format": {"type": "json_schema", "name": "a", "schema": %s}}' % schema
    body = b'{"input": "Hi", "stream": %s, "text": %s}' % (stream, form)
    json_head = {"content-type": "application/json"}
    refused = house.client.post(RESPONSES, content=body, headers=json_head)
    assert refused.status_code == 400, refused.text
    assert house.engine.streams == []
    assert house.client.get(f"{RESPONSES}/export").text == ""


def test_a_schema_is_given_back_as_it_was(house_of: Callable[..., House]) -> None:
    house = house_of(engine=Grammarian())
    schema = {"type": "string", "default": None, "description": "größe 🦉", "examples": [[1, {}]]}
    form = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    answer = house.client.post(RESPONSES, json={"input": "Hi", "text": form})
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"]["format"]["schema"] == schema
    assert house.client.get(f"{RESPONSES}/{answer.json()['id']}").json() == answer.json()


@pytest.mark.parametrize(
    "body",
    [
        b'{"input": "Hi", "previous_response_id": "\\ud800"}',
        b'{"input": "Hi", "metadata": {"\\ud800": ""}}',
        b'{"input": [{"role": "user", "content": [{"type": "image_url", "image_url":'
        b' {"url": "data:,", "detail": "\\ud800"}}]}]}',
    ],
)
def test_half_a_surrogate_pair_is_no_text(house: House, body: bytes) -> None:
    json_head = {"content-type": "application/json"}
    assert house.client.post(RESPONSES, content=body, headers=json_head).status_code == 422


def test_what_cannot_be_rendered_is_not_kept(
    house_of: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a hole be left, then it costs one answer, not every later look at it."""
    monkeypatch.setattr("neva.server.responses.form_of", lambda body: {"x": float("nan")})
    house = house_of()
    assert house.client.post(RESPONSES, json={"input": "Hi"}).status_code == 500
    assert house.client.get(f"{RESPONSES}/export").text == ""
