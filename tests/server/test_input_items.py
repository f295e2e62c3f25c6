"""What was said to a response, as OpenAI's clients list it."""

from typing import Any

import pytest
from server_house import House, data_uri, png

RESPONSES = "/v1/responses"
URI = data_uri(png())


def listed(house: House, said: Any, **query: Any) -> tuple[str, Any]:
    answer = house.client.post(RESPONSES, json={"input": said})
    assert answer.status_code == 200, answer.text
    name = answer.json()["id"]
    return name, house.client.get(f"{RESPONSES}/{name}/input_items", params=query).json()


def texts(told: Any) -> list[str]:
    return [item["content"][0]["text"] for item in told["data"]]


def test_a_string_is_a_list_of_one_text(house: House) -> None:
    _, told = listed(house, "Hi")
    (item,) = told["data"]
    assert item["content"] == [{"type": "input_text", "text": "Hi"}]
    assert (item["type"], item["role"], item["status"]) == ("message", "user", "completed")
    assert told["first_id"] == told["last_id"] == item["id"]
    assert told["has_more"] is False


def test_parts_of_every_kind(house: House) -> None:
    form: dict[str, Any] = {"files": {"file": ("a.png", png())}, "data": {"purpose": "vision"}}
    file = house.client.post("/v1/files", **form).json()["id"]
    image = {"type": "input_image", "image_url": URI, "detail": "auto"}
    sent = [
        ({"type": "text", "text": "a"}, {"type": "input_text", "text": "a"}),
        ({"type": "image_url", "image_url": {"url": URI, "detail": "low"}}, image),
        ({"type": "image_url", "image_url": URI}, image),
        (image, image),
        ({"type": "input_image", "file_id": file}, {**image, "file_id": file}),
        ({"type": "file", "file": {"file_id": file}}, {"type": "input_file", "file_id": file}),
    ]
    sent[4][1].pop("image_url")
    said = [
        {"role": "user", "content": [part for part, _ in sent]},
        {"role": "assistant", "content": "b"},
    ]
    _, told = listed(house, said, order="asc")
    assert told["data"][0]["content"] == [part for _, part in sent]
    assert told["data"][1]["content"] == [{"type": "output_text", "text": "b", "annotations": []}]


def test_order_and_pages(house: House) -> None:
    said = [{"role": "user", "content": str(number)} for number in range(5)]
    name, told = listed(house, said)
    assert texts(told) == list("43210"), "newest first, as at OpenAI"
    assert (told["first_id"], told["last_id"]) == (f"{name}-4", f"{name}-0")
    path = f"{RESPONSES}/{name}/input_items"
    query: dict[str, Any] = {"order": "asc", "limit": 2}
    first = house.client.get(path, params=query).json()
    assert (texts(first), first["has_more"]) == (["0", "1"], True)
    assert (first["first_id"], first["last_id"]) == (f"{name}-0", f"{name}-1")
    last = house.client.get(path, params={**query, "after": f"{name}-3"}).json()
    assert (texts(last), last["has_more"]) == (["4"], False)
    beyond = house.client.get(path, params={**query, "after": f"{name}-4"}).json()
    assert beyond["data"] == []


def test_twenty_unless_more_are_asked_for(house: House) -> None:
    said = [{"role": "user", "content": str(number)} for number in range(30)]
    name, told = listed(house, said)
    assert (len(told["data"]), told["has_more"]) == (20, True)
    more = house.client.get(f"{RESPONSES}/{name}/input_items?limit=100").json()
    assert (len(more["data"]), more["has_more"]) == (30, False)


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=0", 422), ("limit=101", 422), ("order=up", 422), ("after=nobody-1", 404)],
)
def test_what_cannot_be_listed(house: House, query: str, status: int) -> None:
    name, _ = listed(house, "Hi")
    refused = house.client.get(f"{RESPONSES}/{name}/input_items?{query}")
    assert refused.status_code == status
    assert refused.json()["error"]["param"] == query.partition("=")[0]
