"""OpenAI's files API: pictures uploaded once, each key's own, named by id in questions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from server_house import CHAT, House, data_uri, png

from neva.server.auth import Keys
from neva.server.database import SqliteDatabase
from neva.server.errors import ApiError
from neva.server.file_store import FileStore
from neva.server.settings import Limits, Settings

FILES = "/v1/files"
ANN, BOB = {"authorization": "Bearer ann-key"}, {"authorization": "Bearer bob-key"}


def upload(house: House, data: bytes = b"", headers: dict[str, str] | None = None, **form: Any):
    form = {"purpose": "vision", **form}
    file = {"file": ("../a cat.png", data or png(), "image/png")}
    return house.client.post(FILES, files=file, data=form, headers=headers)


def uploaded(house: House, **more: Any) -> dict[str, Any]:
    response = upload(house, **more)
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def test_up_and_down(house: House) -> None:
    data = png(9, 5)
    made = uploaded(house, data=data)
    assert (made["object"], made["filename"], made["bytes"]) == ("file", "a cat.png", len(data))
    assert made["expires_at"] - made["created_at"] == 30 * 24 * 3600
    path = f"{FILES}/{made['id']}"
    assert house.client.get(path).json() == made
    content = house.client.get(f"{path}/content")
    assert content.content == data
    assert content.headers["content-disposition"] == "attachment"
    assert house.client.delete(path).json() == {"id": made["id"], "object": "file", "deleted": True}
    for gone in (house.client.get(path), house.client.delete(path)):
        assert gone.status_code == 404


def test_a_list_has_pages(house_of: Callable[..., House]) -> None:
    house = house_of()
    names = [uploaded(house)["id"] for _ in range(3)]
    uploaded(house, purpose="user_data")
    page = house.client.get(FILES, params={"purpose": "vision", "limit": 2, "order": "asc"}).json()
    assert ([f["id"] for f in page["data"]], page["has_more"]) == (names[:2], True)
    rest = {"purpose": "vision", "order": "asc", "after": page["last_id"]}
    page = house.client.get(FILES, params=rest).json()
    assert ([f["id"] for f in page["data"]], page["has_more"]) == (names[2:], False)
    assert house.client.get(FILES, params={"after": "file-none"}).status_code == 404


def test_in_chat(house: House) -> None:
    name = uploaded(house, data=png(7, 3))["id"]
    for file in ({"file_id": name}, {"file_data": data_uri(png(7, 3)), "filename": "x.png"}):
        part = {"type": "file", "file": file}
        assert "(7, 3)" in house.text([part, {"type": "text", "text": "What?"}], CHAT)
    for wrong in ({}, {"file_id": name, "file_data": "x"}):
        assert house.ask([{"type": "file", "file": wrong}], CHAT).status_code == 422
    missing = house.ask([{"type": "file", "file": {"file_id": "file-none"}}], CHAT)
    assert missing.status_code == 404


def test_in_a_conversation_that_goes_on(house: House) -> None:
    name = uploaded(house, data=png(7, 3))["id"]
    parts = [{"type": "input_text", "text": "What?"}, {"type": "input_image", "file_id": name}]
    body = {"input": [{"role": "user", "content": parts}]}
    first = house.client.post("/v1/responses", json=body).json()
    assert "(7, 3)" in first["output"][0]["content"][0]["text"]
    again = {"input": "And?", "previous_response_id": first["id"]}
    second = house.client.post("/v1/responses", json=again).json()
    assert "(7, 3)" in second["output"][0]["content"][0]["text"]
    house.client.delete(f"{FILES}/{name}")
    gone = house.client.post("/v1/responses", json=again)
    assert gone.status_code == 404 and name in gone.json()["error"]["message"]


@pytest.mark.parametrize("data", [b"no picture", png()[:40], b"%PDF-1.7 ..."])
def test_only_pictures(house: House, data: bytes) -> None:
    refused = upload(house, data=data)
    assert refused.status_code == 422
    assert refused.json()["error"]["message"]


def test_only_known_purposes_and_whole_forms(house: House) -> None:
    assert upload(house, purpose="fine-tune").status_code == 422
    assert house.client.post(FILES, data={"purpose": "vision"}).status_code == 422
    assert house.client.post(FILES, content=b"x").status_code == 422
    short = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "5"}
    assert upload(house, **short).status_code == 422
    hour = uploaded(house, **{**short, "expires_after[seconds]": "3600"})
    assert hour["expires_at"] - hour["created_at"] == 3600


def test_each_key_has_its_own(house_of: Callable[..., House]) -> None:
    house = house_of(Settings(keys=Keys().with_key("ann", "ann-key").with_key("bob", "bob-key")))
    name = uploaded(house, headers=ANN)["id"]
    for path in (f"{FILES}/{name}", f"{FILES}/{name}/content"):
        assert house.client.get(path, headers=ANN).status_code == 200
        assert house.client.get(path, headers=BOB).status_code == 404
    assert house.client.get(FILES, headers=BOB).json()["data"] == []
    part = {"type": "file", "file": {"file_id": name}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    assert house.client.post(CHAT, json=body, headers=BOB).status_code == 404
    assert house.client.delete(f"{FILES}/{name}", headers=BOB).status_code == 404
    assert upload(house).status_code == 401


def test_limits(house_of: Callable[..., House]) -> None:
    house = house_of(Settings(limits=Limits(file_bytes=200, files=2)))
    assert upload(house, data=png(300, 300)).status_code == 413
    assert [upload(house).status_code for _ in range(3)] == [200, 200, 429]


def test_files_survive_a_restart_and_expire(tmp_path: Path) -> None:
    now = 1000.0
    path = tmp_path / "f.sqlite"
    store = FileStore(SqliteDatabase(path), Limits(), keep_days=1, clock=lambda: now)
    name = store.add("ann", "a.png", "vision", png()).id
    store = FileStore(SqliteDatabase(path), Limits(), keep_days=1, clock=lambda: now)
    assert store.data("ann", name) == png()
    now += 24 * 3600 + 1
    with pytest.raises(ApiError, match="expired"):
        store.data("ann", name)
    store.add("ann", "b.png", "vision", png())
    assert len(store.of("ann")) == 1 and store.owners() == {"ann": 1}
    assert (store.expire(), store.expire()) == (1, 0)
    assert SqliteDatabase(path).do("SELECT count(*) FROM file") == [(1,)], "the old one is gone"
