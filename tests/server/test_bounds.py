"""A body of very many things costs no more than reading it: each list and dict has an end."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from server_house import CHAT, NVIDIA, House

from neva.server.bounds import MOST_MESSAGES, MOST_PARTS, can_be_told
from neva.server.responses import ResponsesRequest
from neva.server.schemas import NvidiaRequest, OpenAIRequest

RESPONSES = "/v1/responses"
HI: list[Any] = [{"role": "user", "content": "Hi"}]
MANY: list[Any] = [0] * 100_000
PAIRS = {f"K{number}": 0 for number in range(100_000)}
TALK = {"messages": HI, "input": HI}
MODELS: list[Any] = [NvidiaRequest, OpenAIRequest, ResponsesRequest]
BODIES: list[tuple[str, Any]] = [
    ("messages", MANY),
    ("messages", MANY[:10_000]),
    ("messages", HI * (MOST_MESSAGES + 1)),
    ("messages", [{"role": "user", "content": MANY}]),
    ("messages", [{"role": "user", "content": MANY[:4000]}]),
    ("messages", [{"role": "user", "content": [0] * 5}] * 10_000),
    ("messages", [{"role": "user", "content": "Hi", "labels": PAIRS}]),
    ("messages", [{"role": "wizard"}] * 10_000),
    ("stop", MANY),
    ("labels", PAIRS),
    ("metadata", PAIRS),
]


def read_by_each() -> Iterator[tuple[Any, str, Any]]:
    for model in MODELS:
        for name, value in BODIES:
            field = "input" if (model, name) == (ResponsesRequest, "messages") else name
            if field in model.model_fields:
                yield model, field, value


@pytest.mark.parametrize(("model", "name", "value"), list(read_by_each()))
def test_a_body_has_few_findings(model: Any, name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as told:
        TypeAdapter(model).validate_python({**TALK, name: value})
    assert told.value.error_count() <= 4


@pytest.mark.parametrize("model", MODELS)
def test_no_list_or_dict_is_without_an_end(model: Any) -> None:
    """Of the schema itself, so that a new field cannot be forgotten here."""

    def nodes(node: Any, ended: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
        if isinstance(node, dict):
            kind = node.get("type")
            yield node, ended
            here = ended if kind in ("nullable", "union", "default", "model-field") else False
            here = here or kind == "function-before"
            for name, value in node.items():
                if name != "metadata":
                    yield from nodes(value, here)
        elif isinstance(node, list):
            for value in node:
                yield from nodes(value, ended)

    lists = 0
    for node, ended in nodes(model.__pydantic_core_schema__):
        if node.get("type") == "list" and "items_schema" in node:
            assert node.get("fail_fast") and node.get("max_length"), node
            lists += 1
        if node.get("type") == "dict" and node.get("values_schema", {}).get("type") != "any":
            assert ended and node.get("max_length"), node
    assert lists >= 2


@pytest.mark.parametrize("path", [NVIDIA, CHAT, RESPONSES])
def test_it_is_422_with_the_place(house: House, path: str) -> None:
    name = "input" if path == RESPONSES else "messages"
    refused = house.client.post(path, json={name: MANY})
    assert refused.status_code == 422
    assert refused.json()["error"]["message"] == f"{name}: at most 16,384 are taken"
    parts = [{"type": "text", "text": ""}] * 40
    body = {name: [{"role": "user", "content": parts}] * (MOST_PARTS // 40 + 1)}
    refused = house.client.post(path, json=body)
    assert refused.json()["error"]["message"] == f"{name}: at most 16,384 content parts are taken"
    assert refused.status_code == 422 and house.engine.streams == []


def test_what_can_be_told_can_be_written() -> None:
    deep: Any = "x"
    for _ in range(60):
        deep = {"a": [deep][0]}
    told: list[Any] = [{"a": [1, 1.5, None, True, "ü 🦉 \u0000"]}, deep, {}, []]
    assert all(can_be_told(one) for one in told)
    json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    deeper: Any = "x"
    for _ in range(3000):
        deeper = [deeper]
    untold = [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, {"a": [float("-inf")]}, deeper]
    assert not any(can_be_told(one) for one in untold)
